//! What kube-proxy should be.

use std::time::Duration;

use controlplane::kubeconfig::{self, Auth};
use controlplane::pki::{CertificateId, Issued};
use machine::account::Account;
use machine::config::ProxyMode;
use machine::file::File;
use machine::service::*;

use super::render::{self, OOM_SCORE_ADJUST};
use super::{ID, Inputs};
use crate::controllers::machine::Machine;
use crate::controllers::service::{self, Program, Want};
use crate::controllers::{balancer, yaml};
use crate::plan::Missing;

pub fn want(inputs: &Inputs) -> anyhow::Result<Want> {
    let machine = match &inputs.machine {
        Ok(machine) => machine,
        Err(missing) => return Ok(Want::Waiting(missing.clone())),
    };
    if machine.config.cluster.network.proxy.mode == ProxyMode::None {
        return Ok(Want::Absent(service::id(ID)?));
    }
    let mut missing = Vec::new();
    if inputs.certificate.is_none() {
        missing.push(Missing::new(format!("certificate {}", CertificateId::KubeProxy)));
    }
    if !inputs.node_known && !inputs.known {
        missing.push(Missing::new(format!("Node {}", machine.facts.node_name)));
    }
    match &inputs.certificate {
        Some(issued) if missing.is_empty() => Ok(Want::Running(Box::new(program(machine, issued)?))),
        _ => Ok(Want::Waiting(missing)),
    }
}

fn program(machine: &Machine, issued: &Issued) -> anyhow::Result<Program> {
    let root = &machine.facts.root;
    let account = account(machine.config.cluster.network.proxy.mode);
    let file = |path, contents: &str| File { path, mode: 0o600, account, contents: contents.as_bytes().to_vec() };
    let certificate = file(root.kubernetes().join("kube-proxy.crt"), &issued.certificate_pem);
    let key = file(root.kubernetes().join("kube-proxy.key"), issued.key_pem.reveal());
    let authority = &machine.config.cluster.certificate_authorities.kubernetes.certificate;
    let auth = Auth::Files { certificate: &certificate.path, key: &key.path };
    let kubeconfig = kubeconfig::render(&machine.config.cluster.name, &balancer::url(), authority, ID, auth)?;
    let kubeconfig = file(root.kube_proxy_kubeconfig(), &kubeconfig);
    let config = render::config(machine, &kubeconfig.path);
    let mut spec = spec(machine, account)?;
    spec.readiness = Readiness::Tcp(render::metrics(&config));
    let files = vec![file(root.kube_proxy_config(), &yaml::to_string(&config)?), kubeconfig];
    Ok(Program::new(files, spec).rereading([certificate, key]))
}

/// In nftables mode it needs netlink only. The older modes write lock files, load modules and set other sysctls: root's work.
fn account(mode: ProxyMode) -> Account {
    match mode {
        ProxyMode::Nftables | ProxyMode::None => Account::KubeProxy,
        ProxyMode::Iptables | ProxyMode::Ipvs => Account::Root,
    }
}

fn spec(machine: &Machine, account: Account) -> anyhow::Result<ServiceSpec> {
    let mut args = vec![format!("--config={}", machine.facts.root.kube_proxy_config().display())];
    args.extend(machine.config.cluster.network.proxy.extra_args.iter().map(|(flag, value)| format!("--{flag}={value}")));
    let confined = account != Account::Root;
    let capabilities = ["net_admin", "net_raw"].map(str::to_owned).to_vec();
    Ok(ServiceSpec {
        id: service::id(ID)?,
        program: super::program(&machine.facts.root),
        args,
        environment: service::environment(),
        account,
        capabilities: if confined { Capabilities::Only(capabilities) } else { Capabilities::All },
        no_new_privileges: confined,
        filesystem: if confined { Filesystem::ReadOnly { writable: Vec::new() } } else { Filesystem::Host },
        slice: Slice::Podruntime,
        resources: Resources::default(),
        open_files: 65_536,
        oom_score_adjust: OOM_SCORE_ADJUST,
        after: Vec::new(),
        readiness: Readiness::Started,
        restart: service::always(),
        stop: Stop { deadline: Duration::from_secs(10), whole: StopScope::Cgroup },
        files_digest: String::new(),
    })
}
