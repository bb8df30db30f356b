//! Keeps the user's static pods where the kubelet finds them.
//!
//! reads: machine config   writes: /etc/kubernetes/manifests

use std::path::PathBuf;

use machine::Root;
use machine::account::Account;
use machine::config::Config;
use machine::file::File;

use super::directory::{self, Action};
use super::yaml;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};

#[derive(Debug)]
pub struct StaticPods;

#[derive(Debug)]
pub struct Seen {
    /// None without a config.
    wanted: Option<Vec<File>>,
    present: Vec<PathBuf>,
    stale: Vec<File>,
}

impl Controller for StaticPods {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "static-pods";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        // The kubelet watches the directory, and would look for it in vain if it came later.
        std::fs::create_dir_all(node.root.static_pods())?;
        let config = node.config().map(|applied| applied.config);
        let wanted = config.map(|config| files(&node.root, &config)).transpose()?;
        let stale = wanted.as_deref().map(directory::stale).unwrap_or_default();
        Ok(Seen { wanted, present: directory::list(&node.root.static_pods())?, stale })
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

/// One file a pod, named by namespace and name.
fn files(root: &Root, config: &Config) -> anyhow::Result<Vec<File>> {
    let pods = config.machine.static_pods.iter().enumerate();
    let file = |(index, pod): (usize, &serde_json::Map<String, serde_json::Value>)| {
        let metadata = |field: &str| pod.get("metadata").and_then(|metadata| metadata.get(field)).and_then(|value| value.as_str());
        let name = metadata("name").map_or_else(|| index.to_string(), str::to_owned);
        let path = root.static_pods().join(format!("{}_{name}.yaml", metadata("namespace").unwrap_or("default")));
        Ok(File { path, mode: 0o600, account: Account::Root, contents: yaml::to_string(pod)?.into_bytes() })
    };
    pods.map(file).collect()
}

#[cfg(test)]
mod tests;
