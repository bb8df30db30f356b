//! What is made offline: configs, keys, client configs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use controlplane::client_config::ClientConfig;
use controlplane::secrets::Secrets;
use machine::config::{Config, load};

use crate::terminal::{Ran, machinectl};

fn gen_config(home: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["gen", "config", "demo", "https://192.0.2.10:6443"];
    arguments.extend(more);
    machinectl(home, &arguments)
}

fn config(path: &Path) -> Config {
    load(std::fs::read_to_string(path).expect("the config"), "config").expect("a valid config")
}

#[test]
fn a_cluster_is_generated_whole() {
    let home = tempfile::tempdir().expect("temporary directory");
    let more = ["-o", "demo", "-p", "machine: { kubelet: { labels: { a: b } } }", "--patch-control-plane", "machine: { hostname: cp-1 }"];
    gen_config(home.path(), &more).printed();
    let at = |name: &str| home.path().join("demo").join(name);
    let files = ["controlplane.yaml", "controlplane-join.yaml", "worker.yaml", "client.yaml", "secrets.yaml"];
    for name in files {
        assert_eq!(std::fs::metadata(at(name)).expect(name).permissions().mode() & 0o777, 0o600, "{name}");
    }
    let (first, join, worker) = (config(&at("controlplane.yaml")), config(&at("controlplane-join.yaml")), config(&at("worker.yaml")));
    assert_eq!(
        (first.machine.hostname.as_deref(), join.machine.hostname.as_deref(), worker.machine.hostname.as_deref()),
        (Some("cp-1"), Some("cp-1"), None)
    );
    assert!([&first, &join, &worker].iter().all(|config| config.machine.kubelet.labels["a"] == "b"));
    assert!(first.cluster.certificate_authorities.machine.key.is_some(), "the first control plane signs");
    assert!(join.cluster.certificate_authorities.machine.key.is_none() && worker.cluster.certificate_authorities.machine.key.is_none());
    let out = machinectl(home.path(), &["validate", "demo/controlplane.yaml", "demo/worker.yaml"]).printed();
    assert_eq!(out, "demo/controlplane.yaml: valid\ndemo/worker.yaml: valid\n");

    let before = std::fs::read(at("secrets.yaml")).expect("secrets");
    let error = gen_config(home.path(), &["-o", "demo"]).complained(1);
    assert!(error.contains("demo/controlplane.yaml: exists already"), "{error}");
    assert_eq!(std::fs::read(at("secrets.yaml")).expect("secrets"), before, "nothing is replaced");

    gen_config(home.path(), &["-o", "again", "--with-secrets", "demo/secrets.yaml"]).printed();
    let again = config(&home.path().join("again/controlplane.yaml"));
    assert_eq!(again.cluster.certificate_authorities, first.cluster.certificate_authorities);
    assert!(!home.path().join("again/secrets.yaml").exists());
}

#[test]
fn a_config_that_would_be_wrong_is_not_written() {
    let home = tempfile::tempdir().expect("temporary directory");
    for (more, expected) in [
        (&["-p", "machine: { hostnaem: x }"][..], "hostname"),
        (&["-p", "cluster: { network: { podCIDRs: [10.96.0.0/12] } }"], "10.96.0.0/16"),
        (&["-p", "@none.yaml"], "none.yaml: No such file"),
        (&["-p", "[1, 2]"], "[1, 2]"),
    ] {
        let error = gen_config(home.path(), &[&["-o", "demo"], more].concat()).complained(1);
        assert!(error.contains(expected), "{error}");
    }
    assert!(machinectl(home.path(), &["gen", "config", "demo", "192.0.2.10"]).complained(1).contains("https://<host>:<port>"));
    assert!(!home.path().join("demo").exists());
}

#[test]
fn a_client_of_any_role_is_made_from_the_secrets() {
    let home = tempfile::tempdir().expect("temporary directory");
    machinectl(home.path(), &["gen", "secrets"]).printed();
    assert!(machinectl(home.path(), &["gen", "secrets"]).complained(1).contains("secrets.yaml: exists already"));
    let text = std::fs::read_to_string(home.path().join("secrets.yaml")).expect("secrets");
    let secrets = Secrets::from_yaml(&text).expect("secrets");
    let arguments =
        ["gen", "client", "--role", "reader", "--name", "bob", "--valid-for", "12h", "--as", "mine", "--control-planes", "192.0.2.10"];
    let config = ClientConfig::from_yaml(&machinectl(home.path(), &arguments).printed()).expect("a client config");
    let context = config.context(Some("mine")).expect("the context");
    assert_eq!(context.endpoints, ["192.0.2.10:50000"]);
    assert_eq!(context.ca, secrets.certificate_authorities.machine.certificate);
    let certificate = controlplane::pki::Certificate::inspect(&context.certificate).expect("a certificate");
    assert_eq!((certificate.common_name.as_str(), certificate.organizations.as_slice()), ("bob", &["os:reader".to_owned()][..]));
    assert!(machinectl(home.path(), &["gen", "client", "--role", "root", "--name", "x"]).complained(2).contains("possible values: reader"));
}

#[test]
fn contexts_are_added_listed_and_chosen() {
    let home = tempfile::tempdir().expect("temporary directory");
    gen_config(home.path(), &["-o", "one"]).printed();
    machinectl(home.path(), &["gen", "config", "other", "https://192.0.2.20:6443", "-o", "two"]).printed();
    machinectl(home.path(), &["context", "add", "one/client.yaml"]).printed();
    let added = machinectl(home.path(), &["context", "add", "two/client.yaml"]).printed();
    assert!(added.ends_with(".config/corten/config.yaml: current context is other\n"), "{added}");
    machinectl(home.path(), &["context", "use", "demo"]).printed();
    let list = machinectl(home.path(), &["context", "list", "-o", "json"]).json();
    let shown: Vec<_> =
        list.as_array().expect("a list").iter().map(|c| (c["name"].as_str().expect("a name"), c["current"] == true)).collect();
    assert_eq!(shown, [("demo", true), ("other", false)]);
    let error = machinectl(home.path(), &["context", "use", "none"]).complained(1);
    assert!(error.contains("context \"none\" does not exist; there are: demo, other"), "{error}");
    assert!(machinectl(home.path(), &["--config", "two/client.yaml", "context", "list"]).printed().contains("192.0.2.20:50000"));
}

#[test]
fn fields_are_explained() {
    let home = tempfile::tempdir().expect("temporary directory");
    assert!(machinectl(home.path(), &["explain", "cluster.network"]).printed().contains("podCIDRs"));
    assert!(machinectl(home.path(), &["explain", "machine.hostnaem"]).complained(1).contains("did you mean \"hostname\"?"));
}

#[test]
fn shells_get_their_completion() {
    let home = tempfile::tempdir().expect("temporary directory");
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef machinectl"), ("fish", "complete -c machinectl")] {
        assert!(machinectl(home.path(), &["completion", shell]).printed().contains(sign), "{shell}");
    }
    let bash = home.path().join("completion.bash");
    std::fs::write(&bash, machinectl(home.path(), &["completion", "bash"]).printed()).expect("write");
    assert!(std::process::Command::new("bash").arg("-n").arg(&bash).status().expect("bash").success());
}

#[test]
fn every_command_has_a_manual_page() {
    let home = tempfile::tempdir().expect("temporary directory");
    machinectl(home.path(), &["man", "man1"]).printed();
    for page in ["machinectl.1", "machinectl-gen-config.1", "machinectl-cluster-create.1"] {
        let text = std::fs::read_to_string(home.path().join("man1").join(page)).expect(page);
        assert!(text.contains(".SH NAME") && text.contains(".SH OPTIONS"), "{page}");
    }
}

#[test]
fn clusters_that_are_not_there_cannot_be_destroyed() {
    let home = tempfile::tempdir().expect("temporary directory");
    assert_eq!(machinectl(home.path(), &["cluster", "show"]).printed().lines().count(), 1);
    let error = machinectl(home.path(), &["cluster", "destroy", "demo", "--yes"]).complained(1);
    assert!(error.contains("there is no cluster \"demo\"; see `machinectl cluster show`"), "{error}");
    let error = machinectl(home.path(), &["cluster", "create", "demo", "--image", "none.qcow2"]).complained(1);
    assert!(error.starts_with("error: none.qcow2: No such file") && error.contains("make image"), "{error}");
    assert!(!home.path().join(".local").exists());
}
