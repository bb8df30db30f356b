//! Commands that change something: what the machine is asked, and what the user is told.

use std::os::unix::fs::PermissionsExt;

use crate::fake::Fake;
use crate::terminal::machinectl;

/// A config that passes every check.
fn config(fake: &Fake) -> String {
    machinectl(
        fake.home(),
        &["gen", "config", "demo", "https://192.0.2.10:6443", "-o", "gen", "-p", "machine: { hostname: cp-1 }", "--force"],
    )
    .printed();
    "gen/controlplane.yaml".to_owned()
}

#[test]
fn apply_shows_what_would_be_done_and_does_it() {
    let fake = Fake::member();
    let (file, node) = (config(&fake), fake.address);
    let dry = fake.run(&["apply", "-f", &file, "--dry-run"]).printed();
    assert_eq!(
        dry,
        format!(
            "-old\n+new\n{node}: would be done:\n  restart kubelet\n{node}: part of it takes effect at the next boot: machinectl reboot -n {node}\n"
        )
    );
    let ran = fake.run(&["apply", "-f", &file, "--try", "5m", "-p", "machine: { hostname: cp-2 }"]);
    let confirm = format!("it is taken back in 5m unless you confirm it: machinectl config confirm -n {node}\n");
    assert_eq!(ran.err, confirm);
    assert!(ran.printed().starts_with(&format!("{node}: generation 4 is in force\n")));
    assert_eq!(
        fake.asked.lines(),
        ["apply dry_run=true revert_after=None hostname: cp-1", "apply dry_run=false revert_after=Some(300) hostname: cp-2"]
    );
    // Its name in releases before this one.
    fake.run(&["apply", "-f", &file, "--revert-after", "90s"]).printed();
    assert_eq!(fake.asked.lines()[2], "apply dry_run=false revert_after=Some(90) hostname: cp-1");
}

#[test]
fn a_broken_config_is_refused_before_any_machine_sees_it() {
    let fake = Fake::member();
    let path = fake.write("broken.yaml", "apiVersion: corten.dev/v1\nkind: MachineConfig\nclutser: {}\n");
    let error = fake.run(&["apply", "-f", path.to_str().expect("text")]).complained(1);
    assert!(error.contains("broken.yaml:3:1: clutser") && error.contains("cluster"), "{error}");
    assert!(fake.run(&["validate", "broken.yaml"]).complained(1).contains("broken.yaml:3:1: clutser"));
    assert!(fake.run(&["apply", "-f", "none.yaml"]).complained(1).starts_with("error: none.yaml: No such file"));
    assert_eq!(fake.asked.lines(), [""; 0]);
}

#[test]
fn what_the_machine_refuses_is_told_field_by_field() {
    let fake = Fake::member();
    let (file, node) = (config(&fake), fake.address);
    let error = fake.run(&["apply", "-f", &file, "-p", "machine: { hostname: refuse-me }"]).complained(1);
    assert_eq!(error, format!("error: {node}: machine.hostname: \"refuse-me\"; expected another name\n"));
    let error = fake.run(&["config", "confirm"]).complained(1);
    assert_eq!(error, format!("error: {node}: no config is being tried; nothing to do\n"));
}

#[test]
fn patch_changes_the_config_that_the_machine_has() {
    let fake = Fake::member();
    fake.run(&["patch", "machine: { hostname: cp-9 }", "--dry-run"]).printed();
    assert_eq!(fake.asked.lines(), ["apply dry_run=true revert_after=None hostname: cp-9"]);
    fake.run(&["config", "rollback", "--to", "2"]).printed();
    assert_eq!(fake.asked.lines()[1], "rollback RollbackRequest { generation: Some(2), dry_run: false }");
}

#[test]
fn a_kubeconfig_is_merged_and_kept_secret() {
    let fake = Fake::member();
    let other = "apiVersion: v1\nkind: Config\nclusters:\n- name: old\n  cluster: { server: https://old }\nusers: []\ncontexts: []\ncurrent-context: old\n";
    let path = fake.write(".kube/config", other);
    let ran = fake.run(&["kubeconfig", "--valid-for", "12h"]);
    assert!(ran.err.contains("merged into"), "{}", ran.err);
    ran.printed();
    let merged = std::fs::read_to_string(&path).expect("the kubeconfig");
    assert!(
        merged.contains("https://old") && merged.contains("https://192.0.2.10:6443") && merged.contains("current-context: admin@demo"),
        "{merged}"
    );
    assert_eq!(std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
    let printed = fake.run(&["kubeconfig", "-o", "-"]).printed();
    assert!(printed.contains("https://192.0.2.10:6443") && !printed.contains("https://old"));
    fake.run(&["kubeconfig", "-o", "mine", "-q"]).printed();
    assert!(fake.home().join("mine").is_file());
    assert_eq!(fake.asked.lines(), ["kubeconfig valid_for=Some(43200)", "kubeconfig valid_for=None", "kubeconfig valid_for=None"]);

    fake.write(".kube/config", "not: [a kubeconfig");
    let error = fake.run(&["kubeconfig"]).complained(1);
    assert!(error.contains(".kube/config") && error.contains("--force"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).expect("the kubeconfig"), "not: [a kubeconfig");
}

#[test]
fn an_image_is_sent_whole() {
    let fake = Fake::member();
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    let sum = content.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    fake.write("hello.tar", &content);
    assert_eq!(fake.run(&["image", "import", "hello.tar"]).printed(), format!("{}: hello:1\n", fake.address));
    assert_eq!(fake.asked.lines(), [format!("import 3000001 bytes {sum:x}")]);
    assert!(fake.run(&["image", "import", "none.tar"]).complained(1).starts_with("error: none.tar: No such file"));
}

#[test]
fn services_and_the_cluster_are_controlled() {
    let fake = Fake::member();
    let node = fake.address;
    assert_eq!(fake.run(&["services", "restart", "kubelet"]).printed(), format!("{node}: stop kubelet\n{node}: start kubelet\n"));
    fake.run(&["services", "start", "kubelet"]).printed();
    let bootstrapped = fake.run(&["bootstrap"]).printed();
    assert!(bootstrapped.starts_with("start etcd as a new cluster\nbootstrapped"), "{bootstrapped}");
    assert_eq!(fake.asked.lines(), ["restart kubelet dry_run=false", "start kubelet", "bootstrap dry_run=false"]);
}
