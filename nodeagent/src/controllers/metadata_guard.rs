//! Keeps pods from the cloud's metadata service, which hands out the machine's config and, on most clouds, the machine's own identity.
//!
//! One table of nftables, ours alone, at the forward hook: the machine itself and pods with `hostNetwork` do not pass there. Whoever brings
//! the pods' network, packets of pods do.
//!
//! reads: what init found at boot, the image's facts   writes: table inet corten-metadata

mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{images, nft};
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use plan::Seen;

#[derive(Debug, Default)]
pub struct MetadataGuard {
    /// The table as the kernel showed it after it was made.
    made: Option<String>,
}

impl Controller for MetadataGuard {
    type Seen = Seen;
    type Action = String;
    const NAME: &'static str = "metadataguard";
    const WAKE: Wake = Wake::WhatItReads;
    /// Nobody but the agent has a reason to touch the table.
    const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let platform = node.boot_facts().platform;
        let kubernetes = images::facts(&node.root).is_some_and(|image| !image.kubernetes.is_empty());
        let present = match plan::wanted(&platform, kubernetes) {
            Some(_) => nft::list(&node.root, plan::TABLE).await?,
            None => None,
        };
        Ok(Seen { platform, kubernetes, in_place: self.made.is_some() && self.made == present })
    }

    fn plan(&self, seen: &Seen) -> Plan<String> {
        plan::plan(seen)
    }

    async fn apply(&mut self, rules: String, node: &Node) -> anyhow::Result<()> {
        nft::load(&node.root, &rules).await?;
        self.made = nft::list(&node.root, plan::TABLE).await?;
        Ok(())
    }
}
