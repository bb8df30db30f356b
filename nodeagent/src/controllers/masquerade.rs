//! Gives packets that pods send out of the cluster their machine's address; those to other pods keep the pod's, on whatever machine.
//!
//! One table of nftables, ours alone. Services are kube-proxy's.
//!
//! reads: machine config, nodes (this machine's pod networks)   writes: table inet corten-masquerade

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use machine::config::Config;

use super::nft;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::cluster::NodeStatus;
use plan::Seen;

#[derive(Debug, Default)]
pub struct Masquerade {
    /// The rules that were loaded last, and the table as the kernel showed it then.
    made: Option<(String, String)>,
}

impl Controller for Masquerade {
    type Seen = Seen;
    type Action = String;
    const NAME: &'static str = "masquerade";
    const WAKE: Wake = Wake::WhatItReads;
    /// Nobody but the agent has a reason to touch the table.
    const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let config: Option<Arc<Config>> = node.config().map(|applied| applied.config);
        let pod_cidrs: Vec<IpNet> = node.store.all::<NodeStatus>().into_values().flat_map(|node| node.pod_cidrs).collect();
        let network = config.map(|config| config.cluster.network.clone());
        let mut in_place = None;
        if plan::rules(network.as_ref(), &pod_cidrs).is_some()
            && let Some((rules, shown)) = &self.made
            && nft::list(&node.root, plan::TABLE).await?.as_ref() == Some(shown)
        {
            in_place = Some(rules.clone());
        }
        Ok(Seen { network, pod_cidrs, in_place })
    }

    fn plan(&self, seen: &Seen) -> Plan<String> {
        plan::plan(seen)
    }

    async fn apply(&mut self, rules: String, node: &Node) -> anyhow::Result<()> {
        nft::load(&node.root, &rules).await?;
        self.made = nft::list(&node.root, plan::TABLE).await?.map(|shown| (rules, shown));
        Ok(())
    }
}
