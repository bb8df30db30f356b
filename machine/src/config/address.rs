//! Where a server listens: a host and a port, as `controlPlanes` and the cluster's endpoint name it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::names;

/// A DNS name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

/// `host:port`; an IPv6 address stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub host: Host,
    pub port: u16,
}

/// Why a text is no [`HostPort`], in words for a message: what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct BadAddress(pub &'static str);

impl FromStr for Host {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<Host, BadAddress> {
        // "192.0.2.300" has the form of a name: nobody means that.
        let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Host::Address(address)),
            Err(_) if names::is_dns_subdomain(text) && !numeric => Ok(Host::Name(text.to_owned())),
            Err(_) => Err(BadAddress("a DNS name or an address")),
        }
    }
}

impl FromStr for HostPort {
    type Err = BadAddress;
    fn from_str(text: &str) -> Result<HostPort, BadAddress> {
        let wrong = BadAddress("a host and a port, such as 192.0.2.10:50000, [2001:db8::10]:50000 or cp-1.example.com:50000");
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong.clone())?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map(|address| Host::Address(address.into())).ok(),
            None => host.parse::<Host>().ok().filter(|_| !host.contains(':')),
        };
        let port = Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).and_then(|port| port.parse().ok());
        match (host, port) {
            (Some(host), Some(port)) if port > 0 => Ok(HostPort { host, port }),
            _ => Err(wrong),
        }
    }
}

impl HostPort {
    /// The host and port of `https://<host>:<port>`; no path, user or query.
    pub fn of_https(url: &str) -> Result<HostPort, BadAddress> {
        let wrong = BadAddress("https://<host>:<port>, such as https://192.0.2.10:6443");
        let rest = url.strip_prefix("https://").ok_or_else(|| wrong.clone())?;
        rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| wrong)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_hosts_with_ports() {
        for text in ["192.0.2.10:50000", "[2001:db8::10]:6443", "cp-1.example.com:1"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":",
            "192.0.2.10",
            "192.0.2.10:",
            "192.0.2.10:0",
            "192.0.2.10:65536",
            "192.0.2.300:1",
            "a b:1",
            "2001:db8::1:80",
            "x:+5",
            "[x]:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_https_with_host_and_port_alone() {
        assert_eq!(HostPort::of_https("https://api.example.com:6443").unwrap().port, 6443);
        assert!(HostPort::of_https("https://api.example.com:6443/").is_ok());
        for url in ["http://a:1", "https://a", "https://a:1/x", "https://u@a:1", "a:1", "https://"] {
            assert!(HostPort::of_https(url).is_err(), "{url}");
        }
    }
}
