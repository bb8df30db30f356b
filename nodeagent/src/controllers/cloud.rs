//! Finds out which machine of its cloud this one is, where the cluster has an external cloud provider: the kubelet registers with it, and the
//! cloud's controller knows the machine by it.
//!
//! reads: machine config, what init found at boot   writes: cloudinstances

use machine::config::{CloudProvider, Config};

use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cloud::CloudInstance;
use crate::sources::{Metadata, has_metadata};

#[derive(Debug)]
pub struct Cloud {
    metadata: Metadata,
}

impl Cloud {
    pub fn new(metadata: Metadata) -> Cloud {
        Cloud { metadata }
    }
}

/// Whose metadata service is to be asked, and what it said.
#[derive(Debug)]
pub struct Seen {
    /// None where it is not known yet, or nobody has to be asked.
    platform: Option<String>,
    told: Option<CloudInstance>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Ask { platform: String },
    Forget,
}

/// Whether the kubelet needs to be told who the machine is: on the clouds, unless the user says it.
pub fn is_needed(config: &Config, platform: &str) -> bool {
    let external = config.cluster.cloud_provider == CloudProvider::External;
    external && has_metadata(platform) && !config.machine.kubelet.config.contains_key("providerID")
}

impl Controller for Cloud {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "cloud";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let platform = node.boot_facts().platform;
        let needed = node.config().is_some_and(|applied| is_needed(&applied.config, &platform));
        Ok(Seen { platform: Some(platform).filter(|_| needed), told: node.store.get::<CloudInstance>(CloudInstance::NAME) })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        match action {
            Action::Ask { platform } => {
                let provider_id = self.metadata.provider_id(&platform).await?;
                node.store.put(CloudInstance::NAME, &CloudInstance { platform, provider_id });
            }
            Action::Forget => node.store.remove::<CloudInstance>(CloudInstance::NAME),
        }
        Ok(())
    }
}

/// A machine does not become another one while it runs: it is asked once.
fn plan(seen: &Seen) -> Plan<Action> {
    Plan::from_actions(match (&seen.platform, &seen.told) {
        (Some(platform), None) => vec![Action::Ask { platform: platform.clone() }],
        (None, Some(_)) => vec![Action::Forget],
        (Some(_), Some(_)) | (None, None) => Vec::new(),
    })
}

#[cfg(test)]
mod tests;
