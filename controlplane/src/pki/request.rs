//! What a certificate is to say.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use machine::config::Host;

/// Stands among the names of a control plane's machine certificate, and of no other: by it machines that join know whom they may show a
/// token, and control planes know each other.
pub const CONTROL_PLANE_NAME: &str = "control-plane.corten.internal";

/// Who a certificate is for and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    pub common_name: String,
    /// Kubernetes reads it as the group, the machine API as the role.
    pub organization: Option<String>,
    pub sans: Vec<San>,
    pub usage: Usage,
    /// From now on; cut to the end of the authority's own life.
    pub lifetime: Duration,
}

/// Extended key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
    Both,
}

/// Subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    Dns(String),
    Ip(IpAddr),
}

impl San {
    /// What names the machine itself, for services that are asked from the machine too.
    pub fn loopback() -> Vec<San> {
        vec![San::Dns("localhost".to_owned()), San::Ip([127, 0, 0, 1].into()), San::Ip(std::net::Ipv6Addr::LOCALHOST.into())]
    }
}

impl From<Host> for San {
    fn from(host: Host) -> San {
        match host {
            Host::Name(name) => San::Dns(name),
            Host::Address(address) => San::Ip(address),
        }
    }
}

impl FromStr for San {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<San, Infallible> {
        Ok(text.parse().map_or_else(|_| San::Dns(text.to_owned()), San::Ip))
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Dns(name) => f.write_str(name),
            San::Ip(address) => address.fmt(f),
        }
    }
}
