//! `machinectl gen config`: the machine configs of a new cluster, and the client config of its first administrator.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use machine::config::{
    API_VERSION, ApiServer, CERTIFICATE_LIFETIME, CertificateAuthorities, Cluster, ClusterNetwork, ControllerManager, Document, Etcd,
    HostNetwork, Install, KIND, Kernel, Kubelet, Machine, Registries, Role, Scheduler, Watchdog,
};

use crate::client_config::{ClientConfig, Context};
use crate::endpoint::{BadEndpoint, MACHINE_API_PORT, endpoint_host, normalize};
use crate::pki::{AuthorityId, MachineRole, machine_client};
use crate::secrets::{Secrets, SecretsError};

/// What `gen config` lets its user choose besides name and endpoint.
#[derive(Debug, Clone)]
pub struct Options {
    pub now: SystemTime,
    /// `host[:port]` of the machine APIs of control planes. Empty: the cluster endpoint's host.
    pub machine_endpoints: Vec<String>,
    pub network: ClusterNetwork,
    pub install: Option<Install>,
    pub allow_scheduling_on_control_planes: bool,
    /// Name in the first client certificate.
    pub client_name: String,
    pub client_lifetime: Duration,
}

impl Options {
    pub fn new(now: SystemTime) -> Options {
        Options {
            now,
            machine_endpoints: Vec::new(),
            network: ClusterNetwork::default(),
            install: None,
            allow_scheduling_on_control_planes: false,
            client_name: "admin".to_owned(),
            client_lifetime: CERTIFICATE_LIFETIME.0,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct GeneratedConfigs {
    /// For the first control plane: the only one that holds the authorities' keys.
    pub controlplane: Document,
    /// For further control planes, which receive keys after they have joined.
    pub controlplane_join: Document,
    pub worker: Document,
    pub client: ClientConfig,
}

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// The documents are complete but unchecked: patch them, then check.
pub fn generate(cluster_name: &str, endpoint: &str, secrets: &Secrets, options: &Options) -> Result<GeneratedConfigs, GenerateError> {
    let endpoint = normalize(endpoint)?;
    let machine_endpoints = machine_endpoints(&endpoint, options);
    let first = cluster(cluster_name, &endpoint, &machine_endpoints, secrets, options);
    let join = without_keys(&first);
    let worker = Cluster { allow_scheduling_on_control_planes: false, ..join.clone() };
    Ok(GeneratedConfigs {
        controlplane: document(first, Role::ControlPlane, options),
        controlplane_join: document(join, Role::ControlPlane, options),
        worker: document(worker, Role::Worker, options),
        client: client(cluster_name, machine_endpoints, secrets, MachineRole::Admin, options)?,
    })
}

/// `machinectl gen client`: a context for somebody, in a role, issued offline.
pub fn issue_client(secrets: &Secrets, role: MachineRole, name: &str, lifetime: Duration, endpoints: Vec<String>, now: SystemTime) -> Result<Context, SecretsError> {
    let issued = secrets.issue(AuthorityId::Machine, &machine_client(role, name, lifetime), now)?;
    Ok(Context {
        endpoints,
        nodes: Vec::new(),
        ca: secrets.certificate_authorities.machine.certificate.clone(),
        certificate: issued.certificate_pem,
        key: issued.key_pem,
    })
}

fn client(cluster_name: &str, endpoints: Vec<String>, secrets: &Secrets, role: MachineRole, options: &Options) -> Result<ClientConfig, SecretsError> {
    let context = issue_client(secrets, role, &options.client_name, options.client_lifetime, endpoints, options.now)?;
    let mut config = ClientConfig::default();
    config.add(cluster_name, context);
    Ok(config)
}

fn machine_endpoints(endpoint: &str, options: &Options) -> Vec<String> {
    if options.machine_endpoints.is_empty() {
        return endpoint_host(endpoint).into_iter().map(|host| with_port(&host)).collect();
    }
    options.machine_endpoints.iter().map(|endpoint| with_port(endpoint)).collect()
}

/// `host:port`, with the machine API's port where none is said and brackets around IPv6.
fn with_port(host: &str) -> String {
    if let Ok(address) = host.parse::<IpAddr>() {
        return SocketAddr::new(address, MACHINE_API_PORT).to_string();
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:{MACHINE_API_PORT}") }
}

fn cluster(name: &str, endpoint: &str, machine_endpoints: &[String], secrets: &Secrets, options: &Options) -> Cluster {
    Cluster {
        name: name.to_owned(),
        endpoint: endpoint.to_owned(),
        network: options.network.clone(),
        control_planes: machine_endpoints.to_vec(),
        certificate_authorities: secrets.certificate_authorities.clone(),
        service_account_key: Some(secrets.service_account_key.clone()),
        encryption_key: Some(secrets.encryption_key.clone()),
        join_token: Some(secrets.join_token.clone()),
        api_server: ApiServer::default(),
        controller_manager: ControllerManager::default(),
        scheduler: Scheduler::default(),
        etcd: Etcd::default(),
        manifests: Vec::new(),
        allow_scheduling_on_control_planes: options.allow_scheduling_on_control_planes,
    }
}

/// What a machine that joins may know: whom to trust and the token, but no key.
fn without_keys(first: &Cluster) -> Cluster {
    let mut authorities = first.certificate_authorities.clone();
    let CertificateAuthorities { kubernetes, kubelet, etcd_peer, etcd_client, front_proxy, machine } = &mut authorities;
    for authority in [kubernetes, kubelet, etcd_peer, etcd_client, front_proxy, machine] {
        authority.key = None;
    }
    Cluster { certificate_authorities: authorities, service_account_key: None, encryption_key: None, ..first.clone() }
}

fn document(cluster: Cluster, role: Role, options: &Options) -> Document {
    let machine = Machine {
        role,
        hostname: None,
        install: options.install.clone(),
        network: HostNetwork::default(),
        kubelet: Kubelet::default(),
        registries: Registries::default(),
        kernel: Kernel::default(),
        files: Vec::new(),
        static_pods: Vec::new(),
        watchdog: Watchdog::default(),
    };
    Document { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), cluster, machine }
}
