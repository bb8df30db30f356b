//! The machine's own way to the API servers: a TCP proxy on loopback that knows which of them answer. kubelet, kube-proxy and the agent go
//! through it, so no load balancer is needed from outside.
//!
//! reads: machine config, hostname, node IPs, certificate agent, resolvers   writes: apiservers

mod health;
mod plan;
mod pool;
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use controlplane::pki::CertificateId;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use anyhow::Context;

use super::machine::Machine;
use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::ApiServer;
use plan::{Action, Seen, Target};
use pool::Pool;

/// Where the balancer listens; loopback only.
pub const PORT: u16 = 7443;

/// What programs on this machine name as the API server.
pub fn url() -> String {
    format!("https://127.0.0.1:{PORT}")
}

#[derive(Debug, Default)]
pub struct Balancer {
    keyring: Keyring,
    pool: Arc<Pool>,
    listener: Option<JoinHandle<()>>,
    checks: BTreeMap<Target, JoinHandle<()>>,
}

impl Controller for Balancer {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "balancer";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        self.checks.retain(|_, check| !check.is_finished());
        let checked: BTreeSet<Target> = self.checks.keys().cloned().collect();
        let listening = self.listener.as_ref().is_some_and(|listener| !listener.is_finished());
        let identity = self.keyring.get(node, CertificateId::Agent).is_some();
        Ok(Seen { machine: Machine::observe(node), identity, listening, checked })
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
