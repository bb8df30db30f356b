//! The cluster's endpoint and the ports of a control plane.

/// kube-apiserver, on every address.
pub const API_SERVER_PORT: u16 = 6443;
/// kube-controller-manager, loopback only.
pub const CONTROLLER_MANAGER_PORT: u16 = 10257;
/// kube-scheduler, loopback only.
pub const SCHEDULER_PORT: u16 = 10259;
/// etcd for its clients.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd for its peers.
pub const ETCD_PEER_PORT: u16 = 2380;
/// etcd's /metrics and /health, loopback only.
pub const ETCD_METRICS_PORT: u16 = 2381;
/// The machine API.
pub const MACHINE_API_PORT: u16 = 50000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {0:?}: expected https://<host>:<port> and nothing after it, such as https://203.0.113.10:6443")]
pub struct BadEndpoint(pub String);

/// Checks a cluster endpoint and gives it with its port, which is 6443 where none is said.
pub fn normalize(endpoint: &str) -> Result<String, BadEndpoint> {
    let bad = || BadEndpoint(endpoint.to_owned());
    let uri: http::Uri = endpoint.trim_end_matches('/').parse().map_err(|_| bad())?;
    let nothing_else = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let host = uri.host().filter(|host| nothing_else && !host.is_empty()).ok_or_else(bad)?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(bad());
    }
    let port = uri.port_u16().unwrap_or(API_SERVER_PORT);
    Ok(format!("https://{host}:{port}"))
}

/// The host of an endpoint, IPv6 without its brackets.
pub fn endpoint_host(endpoint: &str) -> Option<String> {
    let uri: http::Uri = endpoint.parse().ok()?;
    let host = uri.host()?;
    Some(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_a_port() {
        assert_eq!(normalize("https://a.example"), Ok("https://a.example:6443".to_owned()));
        assert_eq!(normalize("https://192.0.2.1:443/"), Ok("https://192.0.2.1:443".to_owned()));
        assert_eq!(normalize("https://[2001:db8::1]:6443"), Ok("https://[2001:db8::1]:6443".to_owned()));
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["http://a:6443", "a:6443", "192.0.2.1", "https://", "https://a/path", "https://u@a", "https://a:99999", "https://a?b", ""] {
            assert_eq!(normalize(wrong), Err(BadEndpoint(wrong.to_owned())), "{wrong}");
        }
    }

    #[test]
    fn hosts_lose_their_brackets() {
        assert_eq!(endpoint_host("https://[2001:db8::1]:6443").as_deref(), Some("2001:db8::1"));
        assert_eq!(endpoint_host("https://a.example").as_deref(), Some("a.example"));
    }
}
