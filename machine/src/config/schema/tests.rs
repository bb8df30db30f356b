use std::path::Path;

use super::*;

/// `make golden` (CORTEN_GOLDEN=1) rewrites it.
#[test]
fn exported_schema_is_that_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/schema/machineconfig.v1.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "run `make golden` and read the difference");
}

/// Calls `visit` for each field of each section, with its path.
fn each_field(schema: Schema<'_>, path: &str, visit: &mut dyn FnMut(&str, Schema<'_>, bool)) {
    match schema.shape() {
        Shape::List(inner) | Shape::Map(inner) => each_field(inner, path, visit),
        _ => {
            let required: Vec<_> = schema.required().collect();
            for (name, field) in schema.fields() {
                let path = format!("{path}.{name}");
                visit(&path, field, required.contains(&name));
                each_field(field, &path, visit);
            }
        }
    }
}

#[test]
fn every_field_is_described_with_its_default() {
    let mut seen = 0;
    let mut lacking = Vec::new();
    each_field(document_schema(), "", &mut |path, field, required| {
        seen += 1;
        let description = field.description().unwrap_or_default();
        let section = matches!(field.shape(), Shape::Fields);
        let default = description.contains("Default:")
            || description.contains("No default.")
            || (section && !required)
            || path.matches('.').count() == 1;
        if description.is_empty() || !(default || required) {
            lacking.push(path.to_owned());
        }
    });
    assert!(seen > 90, "only {seen} fields were visited");
    assert_eq!(lacking, Vec::<String>::new());
}

#[test]
fn explains_a_field_and_refuses_an_unknown_one() {
    let text = explain("cluster.network.overlay.backend").unwrap();
    assert!(text.starts_with("cluster.network.overlay.backend <vxlan | wireguard | hostGateway>\n"), "{text}");
    assert!(text.contains("Default: \"vxlan\""), "{text}");
    assert!(explain("machine.network.interfaces.addresses").unwrap().contains("list of network"));
    assert!(explain("").unwrap().contains("machine <fields, required>"));
    let error = explain("machine.kubelets").unwrap_err();
    assert_eq!(error.to_string(), "machine.kubelets: no such field; did you mean \"kubelet\"?");
}
