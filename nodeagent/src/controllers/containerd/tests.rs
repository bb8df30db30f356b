use super::*;
use crate::components::component;
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

/// The real containerd, as `make components` builds it, reads the config and has no field left over.
#[test]
fn containerd_takes_the_config() {
    let directory = tempfile::tempdir().unwrap();
    let program = running(plan::want(&Inputs { root: ::machine::Root::new(directory.path()), ..inputs("full") }).unwrap());
    let path = directory.path().join("config.toml");
    std::fs::write(&path, &program.files[0].contents).unwrap();
    let output = std::process::Command::new(component("containerd/bin/containerd"))
        .arg("--config")
        .arg(&path)
        .args(["config", "dump"])
        .output()
        .unwrap();
    let (dumped, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !said.contains("Ignoring unknown key"), "{said}");
    let dumped: toml::Table = dumped.parse().unwrap();
    let plugin = |name: &str| &dumped["plugins"][format!("io.containerd.{name}").as_str()];
    assert_eq!(plugin("cri.v1.images")["pinned_images"]["sandbox"].as_str(), Some("corten.dev/pause:0.1.0"));
    assert_eq!(plugin("cri.v1.runtime")["containerd"]["runtimes"]["runc"]["options"]["BinaryName"].as_str(), Some("/usr/bin/runc"));
    let socket = directory.path().join("run/containerd/containerd.sock");
    assert_eq!(plugin("server.v1.grpc")["address"].as_str(), socket.to_str());
    assert_eq!(plugin("server.v1.ttrpc")["address"].as_str(), Some(format!("{}.ttrpc", socket.display()).as_str()));
}
