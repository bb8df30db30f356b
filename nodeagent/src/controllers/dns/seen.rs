//! What the Deployment says of its replicas and of who wrote them.

use k8s_openapi::api::apps::v1::Deployment;

use super::FIELD_MANAGER;
use super::plan::{Owner, Scale};

/// Gives the number of replicas back to Corten.
const ANNOTATION: &str = "corten.dev/replicas";
const AUTO: &str = "auto";

pub fn scale(deployment: &Deployment) -> Scale {
    let metadata = &deployment.metadata;
    let given_back = metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION)).is_some_and(|value| value == AUTO);
    let entries = metadata.managed_fields.iter().flatten();
    let mut writers = entries.filter(|entry| {
        let spec = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        spec.is_some_and(|spec| spec.get("f:replicas").is_some())
    });
    // Two that wrote the same number both own it.
    let other = writers.find_map(|entry| entry.manager.clone().filter(|manager| manager != FIELD_MANAGER));
    Scale {
        replicas: deployment.spec.replicas.unwrap_or(1),
        owner: match other {
            Some(manager) if !given_back => Owner::Other(manager),
            Some(_) => Owner::GivenBack,
            None => Owner::Corten,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(annotations: Value, managed_fields: Value) -> Deployment {
        let object = json!({ "metadata": { "annotations": annotations, "managedFields": managed_fields }, "spec": {
            "replicas": 3, "selector": {}, "template": {},
        } });
        serde_json::from_value(object).unwrap()
    }

    fn entry(manager: &str, field: &str) -> Value {
        json!({ "manager": manager, "operation": "Update", "fieldsV1": { "f:spec": { field: {} } } })
    }

    #[test]
    fn who_wrote_the_number_owns_it() {
        let ours = entry(FIELD_MANAGER, "f:replicas");
        let theirs = entry("kubectl", "f:replicas");
        let auto = json!({ ANNOTATION: AUTO });
        for (annotations, fields, owner) in [
            (json!({}), json!([]), Owner::Corten),
            (json!({}), json!([ours, entry("kubectl", "f:paused")]), Owner::Corten),
            (json!({}), json!([entry("corten", "f:template")]), Owner::Corten),
            (json!({}), json!([ours, theirs]), Owner::Other("kubectl".to_owned())),
            (json!({ ANNOTATION: "manual" }), json!([theirs]), Owner::Other("kubectl".to_owned())),
            (auto, json!([theirs]), Owner::GivenBack),
        ] {
            assert_eq!(scale(&deployment(annotations, fields)), Scale { replicas: 3, owner });
        }
    }
}
