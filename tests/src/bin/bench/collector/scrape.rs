//! A scrape of ours, by the way that a scrape of cAdvisor takes: HTTP on loopback, without TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::open_metrics::{self, Format, Text};
use ::metrics::{Names, Snapshot};
use anyhow::ensure;
use axum::Router;
use axum::routing::get;
use hyper::body::Bytes;
use tokio::net::TcpListener;

use crate::http::Client;

/// How long each of so many scrapes took.
pub fn scrapes(snapshot: &Arc<Snapshot>, count: usize) -> anyhow::Result<Vec<Duration>> {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = server.block_on(TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    let (address, snapshot) = (listener.local_addr()?, snapshot.clone());
    let answer = move || {
        let snapshot = snapshot.clone();
        async move { rendered(&snapshot) }
    };
    server.spawn(axum::serve(listener, Router::new().route("/metrics", get(answer))).into_future());
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = client.block_on(async {
        let mut client = Client::connect(address).await?;
        let mut took = Vec::new();
        for _ in 0..count {
            let (text, lasted) = client.ask("GET", "/metrics", Bytes::new()).await?;
            ensure!(text.len() > 10_000, "ours tells of nothing");
            took.push(lasted);
        }
        Ok(took)
    });
    server.shutdown_background();
    took
}

pub fn rendered(snapshot: &Snapshot) -> String {
    let mut text = Text::new(Format::OpenMetrics);
    open_metrics::render(snapshot, &Names::default(), &mut text);
    text.finish()
}
