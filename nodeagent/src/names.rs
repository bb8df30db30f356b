//! Looks up names with the machine's own name servers: a static program must not use the C library's resolver.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use machine::config::{Host, HostPort};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;

use crate::node::Node;
use crate::resources::network::Resolvers;

const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// All addresses of a name, at least one; an address is its own.
pub async fn addresses(node: &Node, name: &str) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let resolvers = node.store.get::<Resolvers>(Resolvers::NAME).unwrap_or_default();
    ensure!(!resolvers.nameservers.is_empty(), "looking up {name}: the machine has no name server");
    let servers = resolvers.nameservers.into_iter().map(NameServerConfig::udp_and_tcp).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()?;
    let looking = || format!("looking up {name}");
    let found = tokio::time::timeout(ANSWER_DEADLINE, resolver.lookup_ip(name)).await.with_context(looking)?.with_context(looking)?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    ensure!(!addresses.is_empty(), "looking up {name}: it has no address");
    Ok(addresses)
}

/// A connection to the first of a host's addresses that takes one.
pub async fn connect(node: &Node, to: &HostPort) -> anyhow::Result<TcpStream> {
    let found = addresses(node, &to.host.to_string()).await?;
    let addresses: Vec<SocketAddr> = found.into_iter().map(|address| SocketAddr::new(address, to.port)).collect();
    TcpStream::connect(addresses.as_slice()).await.with_context(|| format!("connecting to {to}"))
}

/// What a server's certificate has to name.
pub fn server_name(host: &Host) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Name(name) => ServerName::try_from(name.clone()),
    }
}
