//! Holds etcd to the version of the image before while an image is on trial, so that the old etcd could go on with the data, and lets it go
//! afterwards.
//!
//! etcd lets the cluster's version, and with it the storage's, rise only when all members are new: what is asked for then is etcd's own
//! downgrade, to a version that nobody starts unless the machine falls back.
//!
//! reads: upgrades, service etcd, certificates   writes: nothing on the board

mod plan;
mod record;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::{CertificateId, Issued};
use machine::config::Config;
use machine::version::Minor;

use super::etcd::ID;
use super::pki::Keyring;
use crate::controller::{Controller, Wake};
use crate::etcd::{self, access};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::services;
use crate::upgrade::restraint;
use plan::{Action, Cluster, Seen};
pub use record::Hold;

/// etcd looks itself every four seconds whether its version is to rise. The sooner it is told otherwise, the less of its storage has changed.
const WHILE_HELD: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub struct EtcdHold {
    keyring: Keyring,
    /// Whether etcd is to be held, or was and is to be let go.
    concerned: bool,
}

impl Controller for EtcdHold {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "etcdhold";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        if self.concerned { WHILE_HELD } else { Self::LOOK_AGAIN }
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let (wanted, noted) = (restraint::observe(node).etcd, record::load(&node.root)?);
        self.concerned = wanted.or(noted).is_some();
        let cluster = match (wanted.or(noted), services::is_ready(&node.store, ID)) {
            (Some(version), true) => Some(self.look(node, version).await?),
            _ => None,
        };
        Ok(Seen { wanted, noted, cluster })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Note(version) => record::save(&node.root, version),
            Action::Forget => record::forget(&node.root),
            Action::Hold(version) => {
                let (config, certificate) = self.client(node)?;
                etcd::enable_downgrade(access(&config, &certificate), version).await?;
                let message = format!("etcd's data stays readable to {version} until the image has proved itself");
                node.events.emit("service/etcd", "Held", message);
                Ok(())
            }
            Action::Release => {
                let (config, certificate) = self.client(node)?;
                etcd::cancel_downgrade(access(&config, &certificate)).await?;
                node.events.emit("service/etcd", "Released", "etcd's data becomes what its own version makes of it");
                Ok(())
            }
        }
    }
}

impl EtcdHold {
    async fn look(&mut self, node: &Node, version: Minor) -> anyhow::Result<Cluster> {
        let (config, certificate) = self.client(node)?;
        let access = access(&config, &certificate);
        let held = etcd::versions(access).await?.held;
        Ok(Cluster { held, can_be_held: held.is_none() && etcd::may_downgrade(access, version).await? })
    }

    fn client(&mut self, node: &Node) -> anyhow::Result<(Arc<Config>, Issued)> {
        let config = node.config().context("the machine has no config")?.config;
        let certificate = self.keyring.get(node, CertificateId::EtcdHealthClient).context("the agent has no certificate for etcd yet")?;
        Ok((config, certificate))
    }
}
