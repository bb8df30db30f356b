use super::*;

fn user(text: &str) -> Vec<Manifest> {
    user::parse("extra", text).expect("readable")
}

fn names(all: &[Manifest]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn what_others_need_comes_first_and_what_could_refuse_them_last() {
    let given = user(
        "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: hook}}\n---\n\
         {apiVersion: example.com/v1, kind: Lamp, metadata: {name: lamp, namespace: a}}\n---\n\
         {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: lamps.example.com}}\n---\n\
         {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: a}}\n---\n\
         {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n",
    );
    let expected = [
        "Namespace/a",
        "CustomResourceDefinition.apiextensions.k8s.io/lamps.example.com",
        "Lamp.example.com/a/lamp",
        "ConfigMap/a/b",
        "ValidatingWebhookConfiguration.admissionregistration.k8s.io/hook",
    ];
    assert_eq!(names(&order::in_order(given)), expected);
}

#[test]
fn the_users_object_takes_the_place_of_cortens() {
    let object = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {of: NAME}}";
    let mut ours = user(&object.replace("NAME", "corten"));
    ours[0].origin = Origin::Corten;
    let both = order::in_order(ours.into_iter().chain(user(&object.replace("NAME", "user"))).collect());
    assert_eq!(names(&both), ["ConfigMap/a"]);
    assert_eq!((&both[0].origin, &both[0].object["data"]["of"]), (&Origin::User("extra".to_owned()), &Value::from("user")));
}
