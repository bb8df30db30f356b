//! Listens for the scheduler of this machine, on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use controlplane::ports::SCORES_PORT;
use tokio::net::TcpListener;

use super::Scores;
use crate::node::Node;

const BIND_AGAIN: Duration = Duration::from_secs(5);

/// Answers the scheduler for as long as the agent lives. Workers have none that would ask.
pub async fn serve(node: Node, scores: Scores) {
    super::follow::until_control_plane(&node).await;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), SCORES_PORT);
    loop {
        if let Err(error) = listen(address, scores.clone()).await {
            tracing::warn!("{error:#}");
        }
        tokio::time::sleep(BIND_AGAIN).await;
    }
}

async fn listen(address: SocketAddr, scores: Scores) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address} for the scheduler"))?;
    axum::serve(listener, extender::router(scores)).await.with_context(|| format!("serving the scheduler on {address}"))
}
