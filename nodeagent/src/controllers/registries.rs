//! Keeps containerd's registry configuration, one hosts.toml a registry. containerd reads it at each pull, so nothing is restarted.
//! Credentials stand in containerd's own config.
//!
//! reads: machine config   writes: /etc/containerd/certs.d

mod render;

use std::path::PathBuf;

use machine::file::File;

use super::directory::{self, Action};
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};

#[derive(Debug)]
pub struct Registries;

#[derive(Debug)]
pub struct Seen {
    /// None without a config.
    wanted: Option<Vec<File>>,
    present: Vec<PathBuf>,
    stale: Vec<File>,
}

impl Controller for Registries {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "registries";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let config = node.config().map(|applied| applied.config);
        let wanted = config.map(|config| render::files(&node.root, &config.machine.registries)).transpose()?;
        let stale = wanted.as_deref().map(directory::stale).unwrap_or_default();
        Ok(Seen { wanted, present: directory::list(&node.root.registry_hosts())?, stale })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        match &seen.wanted {
            Some(wanted) => Plan::from_actions(directory::plan(wanted, &seen.present, &seen.stale)),
            None => Plan::Waiting(vec![Missing::new("machine config")]),
        }
    }

    async fn apply(&mut self, action: Action, _: &Node) -> anyhow::Result<()> {
        directory::apply(&action)
    }
}
