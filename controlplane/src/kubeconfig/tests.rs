//! Rendering, and merging into files that other tools wrote.

use super::*;

const EXISTING: &str = "apiVersion: v1
clusters:
- cluster:
    server: https://other.example
    insecure-skip-tls-verify: true
  name: other
- cluster: {server: 'https://old.example'}
  name: demo
contexts:
- context: {cluster: other, namespace: mine, user: someone}
  name: other
current-context: other
kind: Config
preferences: {colors: true}
users:
- name: someone
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: login
      args: [--now]
";

fn new() -> String {
    let auth = Auth::Embedded { certificate: "certificate", key: &Secret::new("key") };
    render("demo", "https://192.0.2.1:6443", "authority", "admin", auth).expect("made")
}

fn value(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

#[test]
fn a_new_file_has_one_context() {
    assert_eq!(
        new(),
        "apiVersion: v1
kind: Config
clusters:
- name: demo
  cluster:
    server: https://192.0.2.1:6443
    certificate-authority-data: YXV0aG9yaXR5
users:
- name: admin@demo
  user:
    client-certificate-data: Y2VydGlmaWNhdGU=
    client-key-data: a2V5
contexts:
- name: admin@demo
  context:
    cluster: demo
    user: admin@demo
current-context: admin@demo
"
    );
}

#[test]
fn merging_replaces_its_own_entries_and_leaves_others() {
    let (before, merged) = (value(EXISTING), value(&merge(EXISTING, &new()).expect("merged")));
    let mut expected = before;
    let new = value(&new());
    expected["clusters"][1] = new["clusters"][0].clone();
    for list in ["users", "contexts"] {
        expected[list].as_array_mut().expect("a list").push(new[list][0].clone());
    }
    expected["current-context"] = json!("admin@demo");
    assert_eq!(merged, expected);
}

#[test]
fn merging_twice_changes_nothing_more() {
    let once = merge(EXISTING, &new()).expect("merged");
    assert_eq!(merge(&once, &new()).expect("merged"), once);
}

#[test]
fn an_empty_file_becomes_the_new_one() {
    assert_eq!(merge(" \n", &new()).expect("merged"), new());
    let bare = "apiVersion: v1\nkind: Config\nclusters: null\nusers: []\n";
    assert_eq!(value(&merge(bare, &new()).expect("merged")), value(&new()));
}

#[test]
fn a_file_of_another_kind_stays_as_it_is() {
    assert!(matches!(merge("a: [", &new()), Err(KubeconfigError::Parse(_))));
    let error = merge("apiVersion: v1\nkind: Pod\n", &new()).expect_err("a pod");
    assert_eq!(error.to_string(), "kubeconfig: kind \"Pod\"; expected Config");
}
