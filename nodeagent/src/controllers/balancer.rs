//! The machine's own way to the API servers: a TCP proxy on loopback that knows which of them answer. kubelet, kube-proxy and the agent go
//! through it, so no load balancer is needed from outside.
//!
//! reads: machine config, hostname, node IPs, certificate agent, resolvers, members   writes: apiservers

mod health;
pub mod membership;
mod plan;
mod pool;
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::CertificateId;
use machine::config::HostPort;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::machine::Machine;
use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::names;
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::api_servers::Membership;
use crate::resources::cluster::ApiServer;
use plan::{Action, Seen, Target};
use pool::Pool;

/// Where the balancer listens; loopback only.
pub const PORT: u16 = 7443;

/// How long an address is taken to be a name's.
const FOUND: Duration = Duration::from_secs(60);
/// How long a name that led nowhere is left alone.
const NOT_FOUND: Duration = Duration::from_secs(5);

/// What programs on this machine name as the API server.
pub fn url() -> String {
    format!("https://127.0.0.1:{PORT}")
}

#[derive(Debug, Default)]
pub struct Balancer {
    keyring: Keyring,
    pool: Arc<Pool>,
    /// What names led to, and until when that counts.
    found: BTreeMap<HostPort, (Vec<IpAddr>, Instant)>,
    listener: Option<JoinHandle<()>>,
    checks: BTreeMap<Target, JoinHandle<()>>,
}

impl Controller for Balancer {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "balancer";
    const WAKE: Wake = Wake::WhatItReads;
    /// Names lead elsewhere without anything changing on the board.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        self.checks.retain(|_, check| !check.is_finished());
        let checked: BTreeSet<Target> = self.checks.keys().cloned().collect();
        let listening = self.listener.as_ref().is_some_and(|listener| !listener.is_finished());
        let identity = self.keyring.get(node, CertificateId::Agent).is_some();
        let machine = Machine::observe(node);
        let named = machine.as_ref().map(|machine| plan::named(&machine.config)).unwrap_or_default();
        let addresses = self.addresses(node, named).await;
        let members = node.store.get::<Membership>(Membership::NAME).unwrap_or_default().addresses;
        Ok(Seen { machine, identity, addresses, members, listening, checked })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Listen => {
                let address = SocketAddr::from(([127, 0, 0, 1], PORT));
                let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
                self.listener = Some(tokio::spawn(proxy::serve(listener, self.pool.clone())));
            }
            Action::Check(target) => {
                let check = health::run(node.clone(), self.pool.clone(), target.clone());
                self.checks.insert(target, tokio::spawn(check));
            }
            Action::Forget(target) => {
                if let Some(check) = self.checks.remove(&target) {
                    check.abort();
                }
                self.pool.remove(target.address);
                node.store.remove::<ApiServer>(&target.address.to_string());
            }
        }
        Ok(())
    }
}

impl Balancer {
    /// What the names lead to. One that cannot be looked up now keeps what it led to before.
    async fn addresses(&mut self, node: &Node, named: BTreeSet<HostPort>) -> BTreeMap<HostPort, Vec<IpAddr>> {
        self.found.retain(|server, _| named.contains(server));
        for server in named {
            let (known, until) = self.found.remove(&server).unwrap_or_else(|| (Vec::new(), Instant::now()));
            let answer = match until > Instant::now() {
                true => (known, until),
                false => match names::addresses(node, &server.host.to_string()).await {
                    Ok(addresses) => (addresses, Instant::now() + FOUND),
                    Err(error) => {
                        tracing::warn!("balancer: {error:#}");
                        (known, Instant::now() + NOT_FOUND)
                    }
                },
            };
            self.found.insert(server, answer);
        }
        self.found.iter().map(|(server, (addresses, _))| (server.clone(), addresses.clone())).collect()
    }
}
