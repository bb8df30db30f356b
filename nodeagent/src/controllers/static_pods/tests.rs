use super::*;
use crate::controllers::fixtures::{contents, machine};

#[test]
fn one_file_a_pod_with_the_pod_in_it() {
    let machine = machine("full");
    let files = files(&machine.facts.root, &machine.config).unwrap();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(file.path, PathBuf::from("/etc/kubernetes/manifests/kube-system_node-problem-detector.yaml"));
    let pod: serde_json::Value = serde_saphyr::from_str(contents(file)).unwrap();
    assert_eq!(pod, serde_json::Value::Object(machine.config.machine.static_pods[0].clone()));
}
