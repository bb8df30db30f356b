//! The machine's own name server, for the host's programs and for the cluster's DNS: it knows the cluster's machines, and passes every other
//! question on to the name servers that the config or DHCP gave. It keeps no cache: the cluster's DNS has one.
//!
//! It stands at a link-local address on `lo`, which is the same on every machine, so that the pods of the cluster's DNS, wherever they run, have
//! one in their resolv.conf that never changes. The agent itself does without it (`names.rs`).
//!
//! reads: machine config, resolvers, clusternodes   writes: localresolvers; addresses on lo

mod answer;
mod forward;
mod message;
mod serve;
mod view;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rtnetlink::Handle;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::Instant;

use crate::node::Node;
use crate::resources::network::LocalResolver;
use serve::Resolver;

/// Where programs with IPv4 find it; RFC 3927 has such addresses stay on the machine.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 116, 108);
/// Where pods without IPv4 do: of a network that was drawn by lot (RFC 4193).
pub const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0x2f1c, 0x74a9, 0, 0, 0, 0, 0x53);
const PORT: u16 = 53;

const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the kernel may take to let a new address be used, and how often it is asked.
const TENTATIVE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(5);

/// Serves for as long as the agent lives.
pub async fn run(node: Node) {
    let (views, following) = view::follow(node.clone());
    tokio::spawn(following);
    let resolver = Arc::new(Resolver::new(views));
    let mut pause = SHORTEST_PAUSE;
    loop {
        match bind().await {
            Ok(sockets) => {
                pause = SHORTEST_PAUSE;
                let addresses =
                    sockets.iter().map(|(udp, _)| Ok(udp.local_addr()?.ip())).collect::<std::io::Result<_>>().unwrap_or_default();
                node.store.put(LocalResolver::NAME, &LocalResolver { addresses });
                let ended = serve::serve(resolver.clone(), sockets).await;
                // Before anybody asks in vain for long: resolv.conf has the name servers themselves meanwhile.
                node.store.remove::<LocalResolver>(LocalResolver::NAME);
                tracing::warn!("the local resolver begins anew: {ended}");
            }
            Err(error) => tracing::warn!("{error:#}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// At every address that the kernel takes: where IPv6 is switched off, at one.
async fn bind() -> anyhow::Result<Vec<(UdpSocket, TcpListener)>> {
    let (connection, netlink, _) = rtnetlink::new_connection().context("opening a netlink socket")?;
    let connection = tokio::spawn(connection);
    let mut sockets = Vec::new();
    for address in [IpAddr::V4(ADDRESS), IpAddr::V6(ADDRESS_V6)] {
        match bind_at(&netlink, address).await.with_context(|| format!("standing at {address} as the machine's name server")) {
            Ok(pair) => sockets.push(pair),
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
    connection.abort();
    ensure!(!sockets.is_empty(), "there is no address for the machine's own name server");
    Ok(sockets)
}

async fn bind_at(netlink: &Handle, address: IpAddr) -> anyhow::Result<(UdpSocket, TcpListener)> {
    // The kernel's number of lo in every network namespace.
    const LOOPBACK: u32 = 1;
    netlink.link().set(rtnetlink::LinkUnspec::new_with_index(LOOPBACK).up().build()).execute().await.context("raising lo")?;
    let length = if address.is_ipv4() { 32 } else { 128 };
    netlink.address().add(LOOPBACK, address, length).replace().execute().await.context("adding the address to lo")?;
    let at = SocketAddr::new(address, PORT);
    // An IPv6 address is tentative until the kernel's worker has been at it, on lo as well, and nobody binds to a tentative one.
    let deadline = Instant::now() + TENTATIVE;
    loop {
        match UdpSocket::bind(at).await {
            Ok(udp) => return Ok((udp, TcpListener::bind(at).await?)),
            Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable && Instant::now() < deadline => {
                tokio::time::sleep(AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
