//! Nothing destructive without a word of the user's.

use crate::fake::Fake;

#[test]
fn without_a_terminal_only_yes_will_do() {
    let fake = Fake::member();
    for verb in ["reboot", "shutdown", "reset"] {
        let ran = fake.run(&[verb]);
        assert!(!ran.out.is_empty(), "the plan is shown first");
        let error = ran.complained(2);
        assert_eq!(error, "error: --yes: this needs a confirmation, and there is no terminal to ask on; add --yes\n");
    }
    let lines = fake.asked.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.contains("dry_run=true")), "{lines:?}");
}

#[test]
fn a_dry_run_shows_the_plan_and_does_nothing() {
    let fake = Fake::member();
    assert_eq!(fake.run(&["reboot", "--dry-run"]).printed(), format!("{}:\n  stop 9 services\n  reboot\n", fake.address));
    fake.run(&["reset", "--dry-run", "--wipe", "ephemeral"]).printed();
    assert_eq!(fake.asked.lines(), ["reboot dry_run=true", "reset dry_run=true volumes=[\"EPHEMERAL\"] confirm= power_off=false"]);
}

#[test]
fn yes_does_it() {
    let fake = Fake::member();
    assert_eq!(fake.run(&["reboot", "--yes"]).printed(), format!("{} reboots\n", fake.address));
    assert_eq!(fake.run(&["shutdown", "-y"]).printed(), format!("{} shuts down\n", fake.address));
    fake.run(&["reset", "--yes", "--wipe", "ephemeral,etcd", "--power-off"]).printed();
    let lines = fake.asked.lines();
    assert_eq!(lines[..2], ["reboot dry_run=false", "shutdown dry_run=false"]);
    assert_eq!(lines.last().expect("a call"), "reset dry_run=false volumes=[\"EPHEMERAL\", \"ETCD\"] confirm=cp-1 power_off=true");
}

#[test]
fn a_reboot_can_be_waited_for() {
    let fake = Fake::member();
    let out = fake.run(&["reboot", "--yes", "--wait", "1h"]).printed();
    assert_eq!(out, format!("{0} reboots\n{0} has booted and is healthy\n", fake.address));
    // With another wait the fake machine never becomes healthy.
    let error = fake.run(&["reboot", "--yes", "--wait", "30s"]).complained(1);
    assert!(error.contains("1 of 2 checks pass; kubelet: waits for etcd"), "{error}");
    assert_eq!(fake.run(&["reboot", "--dry-run", "--wait", "1h"]).printed().lines().count(), 3);
}

#[test]
fn with_several_machines_those_meant_must_be_named() {
    let fake = Fake::member();
    let two = [fake.address.to_string(), "127.0.0.1:1".to_owned()];
    fake.write_client_config(&crate::trust::client_config(&two).to_yaml().expect("YAML"));
    let error = fake.run(&["reboot", "--yes"]).complained(2);
    assert!(error.contains("this changes machines") && error.contains("--nodes"), "{error}");
    let error = fake.run(&["bootstrap"]).complained(2);
    assert!(error.contains("this is done to one machine"), "{error}");
    assert_eq!(fake.asked.lines(), [""; 0]);
    fake.run(&["reboot", "--yes", "-n", &two[0]]).printed();
}
