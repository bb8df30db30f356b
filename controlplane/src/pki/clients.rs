//! Certificates that are issued on request: to people, and to the agent when it acts as the cluster's super-user.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{CertificateRequest, Usage};

/// Who may do what with the machine API; it rides in the certificate's organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MachineRole {
    Reader,
    Operator,
    Admin,
    /// Agent to agent.
    Machine,
    /// A call passed on for somebody whose own role still decides.
    Proxy,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("role {0:?}: expected one of os:reader, os:operator, os:admin, os:machine, os:proxy")]
pub struct UnknownRole(String);

impl MachineRole {
    pub const ALL: [MachineRole; 5] =
        [MachineRole::Reader, MachineRole::Operator, MachineRole::Admin, MachineRole::Machine, MachineRole::Proxy];

    pub fn organization(self) -> &'static str {
        match self {
            MachineRole::Reader => "os:reader",
            MachineRole::Operator => "os:operator",
            MachineRole::Admin => "os:admin",
            MachineRole::Machine => "os:machine",
            MachineRole::Proxy => "os:proxy",
        }
    }
}

impl fmt::Display for MachineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.organization())
    }
}

impl FromStr for MachineRole {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<MachineRole, UnknownRole> {
        MachineRole::ALL.into_iter().find(|role| role.organization() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// A client of the machine API; for the machine authority.
pub fn machine_client(role: MachineRole, name: &str, lifetime: Duration) -> CertificateRequest {
    client(name, role.organization(), lifetime)
}

/// An administrator of the cluster, by a binding that our manifests make and that can be taken away; for the Kubernetes authority.
pub fn kubernetes_admin(name: &str, lifetime: Duration) -> CertificateRequest {
    client(name, crate::manifests::CLUSTER_ADMINS, lifetime)
}

/// `system:masters` passes every check without RBAC, so it works before our manifests are there. For the agent's own use; keep it short.
pub fn super_user(lifetime: Duration) -> CertificateRequest {
    client("corten:bootstrap", "system:masters", lifetime)
}

/// A control plane's agent that taints nodes under pressure and evicts pods from them; the API server's audit log has its node's name.
pub fn reliever(node: &str, lifetime: Duration) -> CertificateRequest {
    client(&format!("corten:reliever:{node}"), crate::manifests::RELIEVERS, lifetime)
}

/// A control plane's agent that gives Services of type LoadBalancer their addresses.
pub fn load_balancer(node: &str, lifetime: Duration) -> CertificateRequest {
    client(&format!("corten:load-balancer:{node}"), crate::manifests::LOAD_BALANCERS, lifetime)
}

/// The agent as a client of etcd, before it has a certificate of its own on the disk.
pub fn etcd_client(lifetime: Duration) -> CertificateRequest {
    CertificateRequest { organization: None, ..client("corten:agent", "", lifetime) }
}

fn client(name: &str, organization: &str, lifetime: Duration) -> CertificateRequest {
    CertificateRequest {
        common_name: name.to_owned(),
        organization: Some(organization.to_owned()),
        sans: Vec::new(),
        usage: Usage::Client,
        lifetime,
    }
}
