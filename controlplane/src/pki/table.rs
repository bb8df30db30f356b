//! The table of all certificates that a machine keeps.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use machine::account::Account;
use machine::config::{CERTIFICATE_LIFETIME, CertificateAuthorities, CertificateAuthority, Config, HostPort, Role};

use super::{CONTROL_PLANE_NAME, CertificateRequest, MachineRole, San, Usage};
use crate::facts::Facts;
use crate::manifests::{AGENTS, API_SERVERS};
use crate::service::service_address;

/// The six authorities of a cluster, apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthorityId {
    Kubernetes,
    Kubelet,
    EtcdPeer,
    EtcdClient,
    FrontProxy,
    Machine,
}

impl AuthorityId {
    pub const ALL: [AuthorityId; 6] = [
        AuthorityId::Kubernetes,
        AuthorityId::Kubelet,
        AuthorityId::EtcdPeer,
        AuthorityId::EtcdClient,
        AuthorityId::FrontProxy,
        AuthorityId::Machine,
    ];

    /// As the machine config names it.
    pub fn name(self) -> &'static str {
        match self {
            AuthorityId::Kubernetes => "kubernetes",
            AuthorityId::Kubelet => "kubelet",
            AuthorityId::EtcdPeer => "etcdPeer",
            AuthorityId::EtcdClient => "etcdClient",
            AuthorityId::FrontProxy => "frontProxy",
            AuthorityId::Machine => "machine",
        }
    }

    pub fn of(self, authorities: &CertificateAuthorities) -> &CertificateAuthority {
        match self {
            AuthorityId::Kubernetes => &authorities.kubernetes,
            AuthorityId::Kubelet => &authorities.kubelet,
            AuthorityId::EtcdPeer => &authorities.etcd_peer,
            AuthorityId::EtcdClient => &authorities.etcd_client,
            AuthorityId::FrontProxy => &authorities.front_proxy,
            AuthorityId::Machine => &authorities.machine,
        }
    }
}

impl AuthorityId {
    pub fn of_mut(self, authorities: &mut CertificateAuthorities) -> &mut CertificateAuthority {
        match self {
            AuthorityId::Kubernetes => &mut authorities.kubernetes,
            AuthorityId::Kubelet => &mut authorities.kubelet,
            AuthorityId::EtcdPeer => &mut authorities.etcd_peer,
            AuthorityId::EtcdClient => &mut authorities.etcd_client,
            AuthorityId::FrontProxy => &mut authorities.front_proxy,
            AuthorityId::Machine => &mut authorities.machine,
        }
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One certificate that a machine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateId {
    EtcdServer,
    EtcdPeer,
    /// The agent as a client of etcd: health, members.
    EtcdHealthClient,
    ApiServerEtcdClient,
    ApiServer,
    ApiServerKubeletClient,
    FrontProxyClient,
    ControllerManager,
    Scheduler,
    KubeletClient,
    KubeletServer,
    KubeProxy,
    /// The agent as a client of the Kubernetes API.
    Agent,
    /// The machine API's server, and this agent as a client of others'.
    Machine,
}

impl CertificateId {
    pub const ALL: [CertificateId; 14] = [
        CertificateId::EtcdServer,
        CertificateId::EtcdPeer,
        CertificateId::EtcdHealthClient,
        CertificateId::ApiServerEtcdClient,
        CertificateId::ApiServer,
        CertificateId::ApiServerKubeletClient,
        CertificateId::FrontProxyClient,
        CertificateId::ControllerManager,
        CertificateId::Scheduler,
        CertificateId::KubeletClient,
        CertificateId::KubeletServer,
        CertificateId::KubeProxy,
        CertificateId::Agent,
        CertificateId::Machine,
    ];

    /// Names the resource and its files.
    pub fn name(self) -> &'static str {
        match self {
            CertificateId::EtcdServer => "etcd-server",
            CertificateId::EtcdPeer => "etcd-peer",
            CertificateId::EtcdHealthClient => "etcd-health-client",
            CertificateId::ApiServerEtcdClient => "kube-apiserver-etcd-client",
            CertificateId::ApiServer => "kube-apiserver",
            CertificateId::ApiServerKubeletClient => "kube-apiserver-kubelet-client",
            CertificateId::FrontProxyClient => "front-proxy-client",
            CertificateId::ControllerManager => "kube-controller-manager",
            CertificateId::Scheduler => "kube-scheduler",
            CertificateId::KubeletClient => "kubelet-client",
            CertificateId::KubeletServer => "kubelet-server",
            CertificateId::KubeProxy => "kube-proxy",
            CertificateId::Agent => "agent",
            CertificateId::Machine => "machine",
        }
    }

    pub fn authority(self) -> AuthorityId {
        match self {
            CertificateId::EtcdPeer => AuthorityId::EtcdPeer,
            CertificateId::EtcdServer | CertificateId::EtcdHealthClient | CertificateId::ApiServerEtcdClient => AuthorityId::EtcdClient,
            CertificateId::FrontProxyClient => AuthorityId::FrontProxy,
            CertificateId::KubeletServer => AuthorityId::Kubelet,
            CertificateId::Machine => AuthorityId::Machine,
            CertificateId::ApiServer
            | CertificateId::ApiServerKubeletClient
            | CertificateId::ControllerManager
            | CertificateId::Scheduler
            | CertificateId::KubeletClient
            | CertificateId::KubeProxy
            | CertificateId::Agent => AuthorityId::Kubernetes,
        }
    }

    /// Whether only control planes have it.
    pub fn is_control_plane(self) -> bool {
        match self {
            CertificateId::KubeletClient
            | CertificateId::KubeletServer
            | CertificateId::KubeProxy
            | CertificateId::Agent
            | CertificateId::Machine => false,
            CertificateId::EtcdServer
            | CertificateId::EtcdPeer
            | CertificateId::EtcdHealthClient
            | CertificateId::ApiServerEtcdClient
            | CertificateId::ApiServer
            | CertificateId::ApiServerKubeletClient
            | CertificateId::FrontProxyClient
            | CertificateId::ControllerManager
            | CertificateId::Scheduler => true,
        }
    }

    /// Whose process uses it.
    pub fn account(self) -> Account {
        match self {
            CertificateId::EtcdServer | CertificateId::EtcdPeer => Account::Etcd,
            CertificateId::ApiServerEtcdClient
            | CertificateId::ApiServer
            | CertificateId::ApiServerKubeletClient
            | CertificateId::FrontProxyClient => Account::KubeApiserver,
            CertificateId::ControllerManager => Account::KubeControllerManager,
            CertificateId::Scheduler => Account::KubeScheduler,
            CertificateId::KubeProxy => Account::KubeProxy,
            CertificateId::EtcdHealthClient
            | CertificateId::KubeletClient
            | CertificateId::KubeletServer
            | CertificateId::Agent
            | CertificateId::Machine => Account::Root,
        }
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A certificate that a machine is to have. The files here are root's own, on STATE; services get copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSpec {
    pub id: CertificateId,
    pub authority: AuthorityId,
    pub request: CertificateRequest,
    pub certificate_path: PathBuf,
    pub key_path: PathBuf,
    /// Whose process uses it.
    pub account: Account,
}

pub const AGENT_USER_PREFIX: &str = "corten:agent:";
pub const NODE_USER_PREFIX: &str = "system:node:";
/// Group of all kubelets.
pub const NODES: &str = "system:nodes";

/// The user that a node's agent is in Kubernetes.
pub fn agent_user(node_name: &str) -> String {
    format!("{AGENT_USER_PREFIX}{node_name}")
}

/// The user that a node's kubelet is.
pub fn node_user(node_name: &str) -> String {
    format!("{NODE_USER_PREFIX}{node_name}")
}

/// All certificates that this machine keeps, by its role.
pub fn certificates(config: &Config, facts: &Facts) -> Vec<CertificateSpec> {
    let wanted = |id: &CertificateId| config.machine.role == Role::ControlPlane || !id.is_control_plane();
    CertificateId::ALL.into_iter().filter(wanted).map(|id| spec(id, config, facts)).collect()
}

fn spec(id: CertificateId, config: &Config, facts: &Facts) -> CertificateSpec {
    let directory = match id {
        CertificateId::KubeletClient | CertificateId::KubeletServer => facts.root.kubelet_pki(),
        _ => facts.root.pki(),
    };
    CertificateSpec {
        id,
        authority: id.authority(),
        request: request_for(id, config.machine.role, config, facts),
        certificate_path: directory.join(format!("{id}.crt")),
        key_path: directory.join(format!("{id}.key")),
        account: id.account(),
    }
}

/// What a certificate of this kind says on a machine of this role and with these facts. Of the config, only what all machines of the cluster
/// have the same is read.
pub fn request_for(id: CertificateId, role: Role, config: &Config, facts: &Facts) -> CertificateRequest {
    let node = &facts.node_name;
    let node_user = node_user(node);
    let agent = agent_user(node);
    let (common_name, organization, usage) = match id {
        CertificateId::EtcdServer => (node.as_str(), None, Usage::Server),
        CertificateId::EtcdPeer => (node.as_str(), None, Usage::Both),
        CertificateId::EtcdHealthClient => ("corten:health", None, Usage::Client),
        CertificateId::ApiServerEtcdClient => ("kube-apiserver-etcd-client", None, Usage::Client),
        CertificateId::ApiServer => ("kube-apiserver", None, Usage::Server),
        CertificateId::ApiServerKubeletClient => ("kube-apiserver-kubelet-client", Some(API_SERVERS), Usage::Client),
        CertificateId::FrontProxyClient => (FRONT_PROXY_CLIENT, None, Usage::Client),
        CertificateId::ControllerManager => ("system:kube-controller-manager", None, Usage::Client),
        CertificateId::Scheduler => ("system:kube-scheduler", None, Usage::Client),
        CertificateId::KubeletClient => (node_user.as_str(), Some(NODES), Usage::Client),
        CertificateId::KubeletServer => (node_user.as_str(), Some(NODES), Usage::Server),
        CertificateId::KubeProxy => ("system:kube-proxy", None, Usage::Client),
        CertificateId::Agent => (agent.as_str(), Some(AGENTS), Usage::Client),
        CertificateId::Machine => (node.as_str(), Some(MachineRole::Machine.organization()), Usage::Both),
    };
    let sans = match (usage, id) {
        (Usage::Client, _) => Vec::new(),
        (_, CertificateId::ApiServer) => api_server_names(config, facts),
        (_, CertificateId::Machine) if role == Role::ControlPlane => {
            machine_names(facts).into_iter().chain([San::Dns(CONTROL_PLANE_NAME.to_owned())]).collect()
        }
        _ => machine_names(facts),
    };
    CertificateRequest {
        common_name: common_name.to_owned(),
        organization: organization.map(str::to_owned),
        sans,
        usage,
        lifetime: CERTIFICATE_LIFETIME.0,
    }
}

/// The only common name that extension API servers accept from the aggregator.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

fn machine_names(facts: &Facts) -> Vec<San> {
    let mut names = vec![San::Dns(facts.node_name.clone())];
    names.extend(San::loopback());
    names.extend(facts.node_ips.iter().copied().map(San::Ip));
    without_repeats(names)
}

/// Everything that clients call the API server by, in pods and outside.
fn api_server_names(config: &Config, facts: &Facts) -> Vec<San> {
    let cluster = &config.cluster;
    let mut names = machine_names(facts);
    let service = ["kubernetes".to_owned(), "kubernetes.default".to_owned(), "kubernetes.default.svc".to_owned()];
    names.extend(service.into_iter().map(San::Dns));
    names.push(San::Dns(format!("kubernetes.default.svc.{}", cluster.network.dns_domain)));
    let first: Option<IpAddr> = cluster.network.service_cidrs.first().and_then(|network| service_address(network, 1));
    names.extend(first.map(San::Ip));
    names.extend(HostPort::of_https(&cluster.endpoint).map(|endpoint| endpoint.host.into()));
    names.extend(cluster.virtual_ip.map(San::Ip));
    names.extend(cluster.api_server.certificate_sans.iter().map(|name| parse(name)));
    without_repeats(names)
}

fn parse(name: &str) -> San {
    name.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
}

fn without_repeats(names: Vec<San>) -> Vec<San> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}
