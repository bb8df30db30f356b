//! Whether packets get through the overlay to other machines and back: a connection to a port of a peer's tunnel where nobody listens. That
//! it is refused is the answer, and it takes nobody's time.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::node::Node;
use crate::resources::overlay::{ClusterNode, OverlayPeer, OverlayStatus, PeerState};

/// tcpmux (RFC 1078), which nothing speaks.
const PORT: u16 = 1;
/// A packet that is lost is sent again after one second and after three.
const DEADLINE: Duration = Duration::from_secs(5);
/// In a large cluster some stand for all.
const MOST: usize = 32;

/// Peers that answer now, by name.
pub async fn answering(node: &Node) -> BTreeSet<String> {
    let asked = node.store.all::<OverlayPeer>().into_iter().filter(|(name, _)| is_ready(node, name)).take(MOST);
    let answers = join_all(asked.map(async |(name, peer)| ask(&peer, DEADLINE).await.ok().map(|()| name)));
    answers.await.into_iter().flatten().collect()
}

/// Whether those who answered before still do. One that has gone, or is not Ready, need not.
pub async fn still(node: &Node, before: &[String]) -> Result<(), String> {
    if before.is_empty() {
        return Ok(());
    }
    if node.store.all::<OverlayStatus>().is_empty() {
        return Err("this machine is not in the overlay yet".to_owned());
    }
    let asked = before.iter().filter(|name| is_ready(node, name));
    let answers = join_all(asked.map(async |name| {
        let peer = node.store.get::<OverlayPeer>(name)?;
        ask(&peer, DEADLINE).await.err().map(|problem| format!("{name}: {problem}"))
    }));
    let silent: Vec<String> = answers.await.into_iter().flatten().collect();
    if silent.is_empty() { Ok(()) } else { Err(silent.join("; ")) }
}

pub fn is_ready(node: &Node, name: &str) -> bool {
    node.store.get::<ClusterNode>(name).is_some_and(|node| node.ready)
}

/// In every family that the peer is reached by.
pub async fn ask(peer: &OverlayPeer, deadline: Duration) -> Result<(), String> {
    match peer.state {
        PeerState::Connected => {}
        PeerState::Waiting | PeerState::Refused => return Err(peer.message.clone()),
    }
    let carried = |pods: &&IpNet| peer.addresses.iter().any(|address| address.is_ipv6() == pods.addr().is_ipv6());
    for pods in peer.pod_cidrs.iter().filter(carried) {
        knock(SocketAddr::new(pods.network(), PORT), deadline).await?;
    }
    Ok(())
}

async fn knock(address: SocketAddr, deadline: Duration) -> Result<(), String> {
    match timeout(deadline, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) => Err(format!("{}: {error}", address.ip())),
        Err(_) => Err(format!("{}: no answer within {} s", address.ip(), deadline.as_secs_f32())),
    }
}
