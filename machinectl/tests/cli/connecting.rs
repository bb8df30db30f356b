//! Whom machinectl talks to, and what it does when that fails.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crate::fake::{Fake, dead_port};
use crate::terminal::machinectl;
use crate::trust;

/// Other commands give up after 5 seconds.
const LONGER_THAN_PATIENCE: Duration = Duration::from_millis(6500);

#[test]
fn of_several_machines_each_answers_or_fails_for_itself() {
    let fake = Fake::member();
    let ran = fake.run(&["get", "services", "-n", &fake.with_a_dead_one()]);
    assert!(ran.out.starts_with("NODE") && ran.out.contains(&format!("{}   kubelet", fake.address)), "{}", ran.out);
    let error = ran.complained(3);
    assert!(error.contains("Connection refused") && error.contains("check the address"), "{error}");
    let dead = format!("127.0.0.1:{},127.0.0.1:{}", dead_port(), dead_port());
    assert_eq!(fake.run(&["version", "-n", &dead, "-q"]).complained(1).lines().count(), 2);
}

#[test]
fn a_call_that_takes_too_long_ends_with_124() {
    let fake = Fake::member();
    let error = fake.run(&["services", "stop", "kubelet", "--timeout", "700ms"]).complained(124);
    assert_eq!(error, format!("error: {}: no answer within 700ms; give it more time with --timeout\n", fake.address));
}

#[test]
fn wrong_usage_ends_with_2() {
    let home = tempfile::tempdir().expect("temporary directory");
    for arguments in [
        &["explode"][..],
        &[],
        &["get", "-n", "a b"],
        &["logs"],
        &["logs", "-c", "a/b"],
        &["--timeout", "soon", "version"],
        &["version", "--insecure"],
    ] {
        let error = machinectl(home.path(), arguments).complained(2);
        assert!(!error.is_empty());
    }
}

#[test]
fn without_a_client_config_it_says_how_to_get_one() {
    let home = tempfile::tempdir().expect("temporary directory");
    let error = machinectl(home.path(), &["get", "services"]).complained(1);
    assert!(error.contains(".config/corten/config.yaml: no client config there; make one with `machinectl gen config`"), "{error}");
}

#[test]
fn the_machine_must_be_of_the_same_cluster() {
    let fake = Fake::member();
    fake.write_client_config(&trust::strangers_client_config(&[fake.address.to_string()]).to_yaml().expect("YAML"));
    let error = fake.run(&["version"]).complained(1);
    assert!(error.contains("its certificate is not from this cluster's machine authority; use the context of its cluster"), "{error}");
}

#[test]
fn a_certificate_that_the_machine_does_not_know_is_told_as_such() {
    let fake = Fake::member();
    let mut mixed = trust::strangers_client_config(&[fake.address.to_string()]);
    let context = mixed.contexts.get_mut("demo").expect("the context");
    context.ca = trust::SECRETS.certificate_authorities.machine.certificate.clone();
    fake.write_client_config(&mixed.to_yaml().expect("YAML"));
    let error = fake.run(&["version"]).complained(1);
    assert!(error.contains("received fatal alert") && error.contains("the machine does not accept this client certificate"), "{error}");
}

#[test]
fn the_certificate_must_be_for_the_name_that_is_called() {
    let fake = Fake::member();
    let node = format!("localhost:{}", fake.address.port());
    let error = fake.run(&["version", "-n", &node]).complained(1);
    assert!(error.contains("its certificate is not for this name") && error.contains("--server-name"), "{error}");
    fake.run(&["version", "-n", &node, "--server-name", "cp-1.example.com"]).printed();
}

#[test]
fn a_machine_in_maintenance_is_known_by_its_fingerprint() {
    let fake = Fake::serving(trust::maintenance());
    let node = fake.address.to_string();
    let identity = trust::maintenance();
    let ran = fake.run(&["version", "-n", &node, "--insecure"]);
    let warning = ran.err.clone();
    ran.printed();
    let shown = warning.split_whitespace().find(|word| word.starts_with("sha256:")).expect("the fingerprint").to_owned();
    assert!(warning.starts_with(&format!("warning: {node}: not verified; compare with its console: fingerprint")), "{warning}");
    let ran = fake.run(&["version", "-n", &node, "--fingerprint", &shown]);
    assert_eq!(ran.err, "");
    ran.printed();
    let error = fake.run(&["version", "-n", &node, "--fingerprint", &identity.fingerprint]).complained(1);
    assert!(error.contains("its certificate has another fingerprint; compare with the machine's console"), "{error}");
    assert!(fake.run(&["version", "-n", &node, "--fingerprint", "sha256:12"]).complained(2).contains("64 hexadecimal digits"));
}

#[test]
fn who_waits_for_health_waits_for_the_machine_too() {
    let home = tempfile::tempdir().expect("temporary directory");
    let port = dead_port();
    let node = format!("127.0.0.1:{port}");
    let path = home.path().join("client.yaml");
    std::fs::write(&path, trust::client_config(&[node]).to_yaml().expect("YAML")).expect("write");
    let start = std::thread::spawn(move || {
        std::thread::sleep(LONGER_THAN_PATIENCE);
        Fake::on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port"), trust::member())
    });
    let out = machinectl(home.path(), &["health", "--wait", "1h", "--config", "client.yaml"]).printed();
    assert!(out.contains("kubelet   passes"), "{out}");
    drop(start.join().expect("the machine"));
}

#[test]
fn a_machine_that_comes_up_meanwhile_is_reached() {
    let home = tempfile::tempdir().expect("temporary directory");
    let port = dead_port();
    let start = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(800));
        Fake::on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port"), trust::maintenance())
    });
    let out = machinectl(home.path(), &["version", "--insecure", "-n", &format!("127.0.0.1:{port}")]).printed();
    assert!(out.contains("running"));
    drop(start.join().expect("the machine"));
}
