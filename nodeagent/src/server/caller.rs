//! Who is at the other end of a connection, as the TLS handshake proved it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use api::v1::Role;
use controlplane::pki::{CONTROL_PLANE_NAME, Certificate, MachineRole, San, key_id};
use tokio::time::Instant;

/// The other end of a connection; tonic puts it into each request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// `None` where no certificate was shown: in maintenance, by machines that join, by scrapers with a token.
    pub identity: Option<Arc<Identity>>,
    pub proof: Proof,
}

/// Until when a connection without a certificate may go on because its client has proved otherwise who it is. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Proof(Arc<Mutex<Option<Instant>>>);

impl Proof {
    pub fn give(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    pub fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `os:admin/alice`: organizations and common name.
    pub subject: String,
    pub common_name: String,
    /// The highest of the people's roles in it. `os:machine` and `os:proxy` are none of them.
    pub role: Option<Role>,
    /// Of a certificate of role `os:machine`.
    pub machine: Option<MachineIdentity>,
    /// Whether it may speak for others: a control plane that passes calls on.
    pub is_proxy: bool,
    pub not_after: SystemTime,
}

/// Another machine of the cluster, named by its common name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineIdentity {
    /// [`key_id`] of its public key.
    pub key: String,
    pub control_plane: bool,
}

impl Identity {
    pub fn of(certificate: &Certificate) -> Identity {
        let roles = || certificate.organizations.iter().filter_map(|name| name.parse::<MachineRole>().ok());
        let machine = roles().any(|role| role == MachineRole::Machine).then(|| MachineIdentity {
            key: key_id(&certificate.public_key),
            control_plane: certificate.sans.contains(&San::Dns(CONTROL_PLANE_NAME.to_owned())),
        });
        Identity {
            subject: subject(certificate),
            common_name: certificate.common_name.clone(),
            role: roles().filter_map(Identity::role_of).max_by_key(|role| *role as i32),
            machine,
            is_proxy: roles().any(|role| role == MachineRole::Proxy),
            not_after: certificate.not_after,
        }
    }

    /// People's roles alone.
    pub fn role_of(role: MachineRole) -> Option<Role> {
        match role {
            MachineRole::Reader => Some(Role::Reader),
            MachineRole::Operator => Some(Role::Operator),
            MachineRole::Admin => Some(Role::Admin),
            MachineRole::Machine | MachineRole::Proxy => None,
        }
    }

    /// As certificates have the role; empty without one.
    pub fn organization(&self) -> String {
        let role = MachineRole::ALL.into_iter().find(|role| self.role.is_some() && Identity::role_of(*role) == self.role);
        role.map(|role| role.organization().to_owned()).unwrap_or_default()
    }
}

/// Organizations and common name, as logs and records show them.
pub fn subject(certificate: &Certificate) -> String {
    match certificate.organizations.join("+") {
        organizations if organizations.is_empty() => certificate.common_name.clone(),
        organizations => format!("{organizations}/{}", certificate.common_name),
    }
}

impl Peer {
    /// Subject of the certificate; empty without one.
    pub fn subject(&self) -> &str {
        self.identity.as_ref().map_or("", |identity| &identity.subject)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => write!(f, "{} from {}", identity.subject, self.address),
            None => write!(f, "somebody without a certificate from {}", self.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use controlplane::pki::{Authority, CertificateRequest, Usage};

    use super::*;

    fn identity(organization: Option<&str>) -> Identity {
        let now = SystemTime::now();
        let authority = Authority::generate("machine", now, Duration::from_secs(3600)).unwrap();
        let request = CertificateRequest {
            common_name: "alice".to_owned(),
            organization: organization.map(str::to_owned),
            sans: Vec::new(),
            usage: Usage::Client,
            lifetime: Duration::from_secs(60),
        };
        Identity::of(&Certificate::inspect(&authority.issue(&request, now).unwrap().certificate_pem).unwrap())
    }

    #[test]
    fn a_role_is_what_the_organization_says() {
        assert_eq!(identity(Some("os:admin")).role, Some(Role::Admin));
        assert_eq!(identity(Some("os:operator")).role, Some(Role::Operator));
        assert_eq!(identity(Some("os:reader")).role, Some(Role::Reader));
        for none in [None, Some("os:machine"), Some("os:proxy"), Some("os:root"), Some("admin"), Some("OS:ADMIN"), Some("")] {
            assert_eq!(identity(none).role, None, "{none:?}");
        }
        assert_eq!(identity(Some("os:reader")).subject, "os:reader/alice");
        assert_eq!(identity(None).subject, "alice");
    }
}
