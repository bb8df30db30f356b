//! Machines for tests: the examples of `configs/`, with a name and an address.

use std::path::PathBuf;
use std::sync::Arc;

use controlplane::Facts;
use controlplane::pki::{CertificateId, Issued};
use machine::Root;
use machine::config::{Config, Secret};
use machine::file::File;

use super::machine::Machine;
use super::service::{Program, Want};

/// A machine with the config `configs/examples/<name>.yaml`.
pub fn machine(name: &str) -> Machine {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs/examples").join(name).with_extension("yaml");
    let config: Config = machine::config::load(std::fs::read(&path).unwrap(), name).unwrap();
    let facts = Facts { root: Root::new("/"), node_name: "cp-1".to_owned(), node_ips: vec!["192.0.2.10".parse().unwrap()], emulated: None };
    Machine { config: Arc::new(config), facts }
}

/// The same with another config.
pub fn changed(machine: &Machine, change: impl FnOnce(&mut Config)) -> Machine {
    let mut config = (*machine.config).clone();
    change(&mut config);
    Machine { config: Arc::new(config), facts: machine.facts.clone() }
}

/// The same in a cluster of IPv6 alone.
pub fn with_ipv6(machine: &Machine) -> Machine {
    let mut machine = changed(machine, |config| {
        let network = &mut config.cluster.network;
        network.pod_cidrs = vec!["fd00:1::/56".parse().unwrap()];
        network.service_cidrs = vec!["fd00:2::/112".parse().unwrap()];
    });
    machine.facts.node_ips = vec!["2001:db8::10".parse().unwrap()];
    machine
}

/// A certificate that says whose it is.
pub fn issued(id: CertificateId) -> Issued {
    Issued { certificate_pem: format!("certificate {id}\n"), key_pem: Secret::new(format!("key {id}\n")) }
}

/// The program that is wanted.
pub fn running(want: Want) -> Program {
    match want {
        Want::Running(program) => *program,
        other => panic!("{other:?}"),
    }
}

/// What is missing.
pub fn waits_for(want: &Want) -> Vec<String> {
    match want {
        Want::Waiting(missing) => missing.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

/// A program as text: its service, and the files with these names.
pub fn print(program: &Program, files: &[&str]) -> String {
    let mut text = serde_saphyr::to_string(&program.spec).unwrap();
    for file in &program.files {
        text.push_str(&format!("--- {file:?}\n"));
        if files.iter().any(|name| file.path.ends_with(name)) {
            text.push_str(contents(file));
        }
    }
    text
}

pub fn contents(file: &File) -> &str {
    std::str::from_utf8(&file.contents).unwrap()
}
