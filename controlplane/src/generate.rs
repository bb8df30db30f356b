//! `machinectl gen config`: the machine configs of a new cluster, and the client config of its first administrator.

use std::time::{Duration, SystemTime};

use machine::config::{
    API_VERSION, ApiServer, Audit, CERTIFICATE_LIFETIME, CertificateAuthorities, CloudProvider, Cluster, ClusterMetrics, ClusterNetwork,
    ClusterPressure, ControllerManager, Document, Etcd, Health, Host, HostNetwork, HostPort, Install, KIND, Kernel, Kubelet, Machine,
    MachinePressure, Registries, Role, Scheduler, Screen, Upgrade, Watchdog,
};

use crate::client_config::{ClientConfig, Context};
use crate::pki::{AuthorityId, MachineRole, machine_client};
use crate::ports::{API_SERVER_PORT, MACHINE_API_PORT};
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
    /// For further control planes, which receive the authorities' keys after they have joined.
    pub controlplane_join: Document,
    pub worker: Document,
    pub client: ClientConfig,
}

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("cluster endpoint {0:?}: expected https://<host>:<port>, such as https://203.0.113.10:6443")]
    Endpoint(String),
    #[error("machine endpoint {0:?}: expected <host> or <host>:<port>, such as 203.0.113.10:50000")]
    MachineEndpoint(String),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// The documents are complete but unchecked: patch them, then check.
pub fn generate(cluster_name: &str, endpoint: &str, secrets: &Secrets, options: &Options) -> Result<GeneratedConfigs, GenerateError> {
    let endpoint = with_api_port(endpoint)?;
    let machine_endpoints = machine_endpoints(&endpoint, options)?;
    let first = cluster(cluster_name, &format!("https://{endpoint}"), &machine_endpoints, secrets, options);
    let join = without_authority_keys(&first);
    let worker = Cluster { service_account_key: None, encryption_key: None, ..join.clone() };
    Ok(GeneratedConfigs {
        controlplane: document(first, Role::ControlPlane, options),
        controlplane_join: document(join, Role::ControlPlane, options),
        worker: document(worker, Role::Worker, options),
        client: client(cluster_name, machine_endpoints, secrets, MachineRole::Admin, options)?,
    })
}

/// `machinectl gen client`: a context for somebody, in a role, issued offline.
pub fn issue_client(
    secrets: &Secrets,
    role: MachineRole,
    name: &str,
    lifetime: Duration,
    endpoints: Vec<String>,
    now: SystemTime,
) -> Result<Context, SecretsError> {
    let issued = secrets.issue(AuthorityId::Machine, &machine_client(role, name, lifetime), now)?;
    Ok(Context {
        endpoints,
        nodes: Vec::new(),
        ca: secrets.certificate_authorities.machine.certificate.clone(),
        certificate: issued.certificate_pem,
        key: issued.key_pem,
    })
}

fn client(
    cluster_name: &str,
    endpoints: Vec<String>,
    secrets: &Secrets,
    role: MachineRole,
    options: &Options,
) -> Result<ClientConfig, SecretsError> {
    let context = issue_client(secrets, role, &options.client_name, options.client_lifetime, endpoints, options.now)?;
    let mut config = ClientConfig::default();
    config.add(cluster_name, context);
    Ok(config)
}

/// The cluster's endpoint; a port may be left out.
fn with_api_port(endpoint: &str) -> Result<HostPort, GenerateError> {
    let bare = endpoint.strip_suffix('/').unwrap_or(endpoint);
    HostPort::of_https(bare)
        .or_else(|_| HostPort::of_https(&format!("{bare}:{API_SERVER_PORT}")))
        .map_err(|_| GenerateError::Endpoint(endpoint.to_owned()))
}

fn machine_endpoints(endpoint: &HostPort, options: &Options) -> Result<Vec<String>, GenerateError> {
    if options.machine_endpoints.is_empty() {
        return Ok(vec![HostPort { host: endpoint.host.clone(), port: MACHINE_API_PORT }.to_string()]);
    }
    options.machine_endpoints.iter().map(|endpoint| with_machine_port(endpoint)).collect()
}

/// A machine API's address; the port may be left out, and then the brackets of IPv6 as well.
fn with_machine_port(endpoint: &str) -> Result<String, GenerateError> {
    let bare = |_| endpoint.parse::<Host>().map(|host| HostPort { host, port: MACHINE_API_PORT });
    let parsed = endpoint.parse::<HostPort>().or_else(bare);
    parsed.map(|address| address.to_string()).map_err(|_| GenerateError::MachineEndpoint(endpoint.to_owned()))
}

fn cluster(name: &str, endpoint: &str, machine_endpoints: &[String], secrets: &Secrets, options: &Options) -> Cluster {
    Cluster {
        name: name.to_owned(),
        endpoint: endpoint.to_owned(),
        virtual_ip: None,
        network: options.network.clone(),
        control_planes: machine_endpoints.to_vec(),
        certificate_authorities: secrets.certificate_authorities.clone(),
        service_account_key: Some(secrets.service_account_key.clone()),
        encryption_key: Some(secrets.encryption_key.clone()),
        join_token: Some(secrets.join_token.clone()),
        api_server: ApiServer::default(),
        controller_manager: ControllerManager::default(),
        scheduler: Scheduler::default(),
        pressure: ClusterPressure::default(),
        etcd: Etcd::default(),
        metrics: ClusterMetrics::default(),
        cloud_provider: CloudProvider::default(),
        manifests: Vec::new(),
        allow_scheduling_on_control_planes: options.allow_scheduling_on_control_planes,
    }
}

/// What a control plane that joins may know: whom to trust, but not how to issue in their name.
fn without_authority_keys(first: &Cluster) -> Cluster {
    let mut authorities = first.certificate_authorities.clone();
    let CertificateAuthorities { kubernetes, kubelet, etcd_peer, etcd_client, front_proxy, machine } = &mut authorities;
    for authority in [kubernetes, kubelet, etcd_peer, etcd_client, front_proxy, machine] {
        authority.key = None;
    }
    Cluster { certificate_authorities: authorities, ..first.clone() }
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
        health: Health::default(),
        pressure: MachinePressure::default(),
        upgrade: Upgrade::default(),
        audit: Audit::default(),
        watchdog: Watchdog::default(),
        console: Screen::default(),
    };
    Document { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), cluster, machine }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Certificate, verify_chain};

    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn generated(endpoint: &str, options: &Options) -> Result<GeneratedConfigs, GenerateError> {
        generate("demo", endpoint, &Secrets::generate(now()).expect("made"), options)
    }

    /// What `gen config` writes is what a machine takes.
    #[test]
    fn every_document_passes_the_check() {
        let configs = generated("https://203.0.113.10:6443", &Options::new(now())).expect("made");
        for (name, document) in
            [("controlplane", configs.controlplane), ("controlplane_join", configs.controlplane_join), ("worker", configs.worker)]
        {
            let yaml = crate::yaml::to_string(&document).expect("YAML");
            let config = machine::config::load(&yaml, name).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!((config.cluster, config.machine), (document.cluster, document.machine), "{name}");
        }
    }

    #[test]
    fn keys_stand_where_they_are_needed_only() {
        let configs = generated("https://203.0.113.10:6443", &Options::new(now())).expect("made");
        let keys = |document: &Document| {
            let authorities = &document.cluster.certificate_authorities;
            AuthorityId::ALL.iter().filter(|id| id.of(authorities).key.is_some()).count()
        };
        assert_eq!([&configs.controlplane, &configs.controlplane_join, &configs.worker].map(keys), [6, 0, 0]);
        assert!(configs.controlplane_join.cluster.encryption_key.is_some());
        let worker = &configs.worker.cluster;
        assert_eq!((&worker.service_account_key, &worker.encryption_key), (&None, &None));
        assert_eq!(worker.join_token, configs.controlplane.cluster.join_token);
    }

    #[test]
    fn the_client_config_is_an_administrators() {
        let configs = generated("https://203.0.113.10:6443", &Options::new(now())).expect("made");
        let context = configs.client.context(None).expect("current");
        let certificate = Certificate::inspect(&context.certificate).expect("readable");
        assert_eq!(certificate.organizations, ["os:admin"]);
        assert_eq!(context.endpoints, ["203.0.113.10:50000"]);
        verify_chain(&context.certificate, &context.ca, now()).expect("the machine authority's");
        let text = configs.client.to_yaml().expect("YAML");
        assert_eq!(ClientConfig::from_yaml(&text).expect("readable"), configs.client);
    }

    #[test]
    fn ports_may_be_left_out() {
        let options = Options {
            machine_endpoints: ["2001:db8::1", "cp-1.example:1", "[2001:db8::2]:2"].map(str::to_owned).to_vec(),
            ..Options::new(now())
        };
        let configs = generated("https://api.example", &options).expect("made");
        assert_eq!(configs.worker.cluster.endpoint, "https://api.example:6443");
        assert_eq!(configs.worker.cluster.control_planes, ["[2001:db8::1]:50000", "cp-1.example:1", "[2001:db8::2]:2"]);
    }

    #[test]
    fn wrong_endpoints_are_named() {
        for wrong in
            ["http://a:6443", "a:6443", "192.0.2.1", "https://", "https://a/path", "https://u@a", "https://a:99999", "https://a?b", ""]
        {
            let error = generated(wrong, &Options::new(now())).expect_err(wrong);
            assert!(error.to_string().starts_with(&format!("cluster endpoint {wrong:?}: expected https://")), "{error}");
        }
        let options = Options { machine_endpoints: vec!["a b".to_owned()], ..Options::new(now()) };
        let error = generated("https://a", &options).expect_err("a blank");
        assert!(error.to_string().starts_with("machine endpoint \"a b\": expected <host>"), "{error}");
    }
}
