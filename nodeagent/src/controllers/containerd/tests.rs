use super::*;
use crate::controllers::fixtures::{machine, print, running, waits_for};

fn inputs(name: &str) -> Inputs {
    let machine = machine(name);
    Inputs { root: machine.facts.root, config: Some(machine.config), pause: "corten.dev/pause:0.1.0".to_owned(), ephemeral_open: true }
}

#[test]
fn goldens() {
    for case in ["worker", "full"] {
        let program = running(plan::want(&inputs(case)).unwrap());
        crate::golden::check(&format!("src/controllers/containerd/golden/{case}.txt"), &print(&program, &["config.toml"]));
    }
}

#[test]
fn waits_for_its_volume() {
    let closed = Inputs { ephemeral_open: false, ..inputs("worker") };
    assert_eq!(waits_for(&plan::want(&closed).unwrap()), ["volume ephemeral"]);
}

#[test]
fn new_mirrors_are_no_reason_to_restart_but_credentials_are() {
    let before = running(plan::want(&inputs("worker")).unwrap());
    let with = |change: fn(&mut ::machine::config::Registries)| {
        let mut config = (*machine("worker").config).clone();
        change(&mut config.machine.registries);
        running(plan::want(&Inputs { config: Some(Arc::new(config)), ..inputs("worker") }).unwrap())
    };
    let mirrored = with(|registries| drop(registries.mirrors.insert("docker.io".to_owned(), ::machine::config::Mirror::default())));
    assert_eq!(mirrored.spec, before.spec);
    let credited = with(|registries| {
        let credential = ::machine::config::Credential { username: "a".to_owned(), password: ::machine::config::Secret::new("b") };
        registries.credentials.insert("docker.io".to_owned(), credential);
    });
    assert_ne!(credited.spec, before.spec);
}
