//! What the kubelet should be.

use std::net::SocketAddr;
use std::time::Duration;

use controlplane::kubeconfig::{self, Auth};
use controlplane::pki::CertificateId;
use machine::account::Account;
use machine::file::File;
use machine::service::*;

use super::render::{self, HEALTH_PORT, Paths};
use super::{ID, Inputs};
use crate::controllers::machine::Machine;
use crate::controllers::service::{self, Program, Want};
use crate::controllers::{balancer, containerd, yaml};
use crate::plan::Missing;

/// On a control plane the kubelet leaves the processor to etcd and the API server first, but not for ever: static pods need no API server.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn want(inputs: &Inputs) -> anyhow::Result<Want> {
    let missing = missing(inputs);
    let machine = match &inputs.machine {
        Ok(machine) if missing.is_empty() => machine,
        _ => return Ok(Want::Waiting(missing)),
    };
    let comes_first = machine.is_control_plane() && !inputs.api_server_listens;
    if comes_first && !inputs.known && inputs.waited < PATIENCE {
        return Ok(Want::Waiting(vec![Missing::new("API server")]));
    }
    Ok(Want::Running(Box::new(program(machine, inputs.provider_id.as_deref())?)))
}

/// What is missing, the API server left aside.
pub fn missing(inputs: &Inputs) -> Vec<Missing> {
    let mut missing = inputs.machine.as_ref().err().cloned().unwrap_or_default();
    if !inputs.ephemeral_open {
        missing.push(Missing::new("volume ephemeral"));
    }
    let absent = inputs.certificates.iter().filter(|(_, fingerprint)| fingerprint.is_none());
    missing.extend(absent.map(|(id, _)| Missing::new(format!("certificate {id}"))));
    if inputs.is_of_a_cloud && inputs.provider_id.is_none() {
        missing.push(Missing::new("instance identity (machinectl get controllers cloud)"));
    }
    missing
}

fn program(machine: &Machine, provider_id: Option<&str>) -> anyhow::Result<Program> {
    let root = &machine.facts.root;
    let certificate = |id: CertificateId| (root.kubelet_pki().join(format!("{id}.crt")), root.kubelet_pki().join(format!("{id}.key")));
    let (serving_certificate, serving_key) = certificate(CertificateId::KubeletServer);
    let (client_certificate, client_key) = certificate(CertificateId::KubeletClient);
    let authority = &machine.config.cluster.certificate_authorities.kubernetes.certificate;
    let paths = Paths { client_ca: root.kubernetes().join("kubelet-client-ca.crt"), certificate: serving_certificate, key: serving_key };

    let auth = Auth::Files { certificate: &client_certificate, key: &client_key };
    let kubeconfig = kubeconfig::render(&machine.config.cluster.name, &balancer::url(), authority, ID, auth)?;
    let config = yaml::to_string(&render::config(machine, provider_id, &paths)?)?;
    let file = |path, contents: &str| File { path, mode: 0o600, account: Account::Root, contents: contents.as_bytes().to_vec() };
    let files = vec![file(root.kubelet_config(), &config), file(root.kubelet_kubeconfig(), &kubeconfig)];
    Ok(Program::new(files, spec(machine)?).rereading([file(paths.client_ca, authority)]))
}

fn spec(machine: &Machine) -> anyhow::Result<ServiceSpec> {
    Ok(ServiceSpec {
        id: service::id(ID)?,
        program: service::program("kubelet"),
        args: render::args(machine),
        environment: service::environment(),
        account: Account::Root,
        capabilities: Capabilities::All,
        no_new_privileges: false,
        // Volumes that it mounts have to be seen by containerd.
        filesystem: Filesystem::Host,
        slice: Slice::Podruntime,
        resources: Resources { cpu_weight: Some(200), ..Resources::default() },
        open_files: 1_048_576,
        oom_score_adjust: -999,
        after: vec![service::id(containerd::ID)?],
        readiness: Readiness::Tcp(SocketAddr::from(([127, 0, 0, 1], HEALTH_PORT))),
        restart: service::always(),
        stop: Stop { deadline: Duration::from_secs(30), whole: StopScope::MainProcess },
        files_digest: String::new(),
    })
}
