//! Decides what to do with the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use machine::config::{Config, FirewallDefault};

use super::openings::{Opening, openings};
use super::render;
use crate::plan::{Missing, Plan};
use crate::resources::network::FirewallRule;

#[derive(Debug, Clone)]
pub struct Seen {
    pub config: Option<Arc<Config>>,
    /// Addresses of the cluster's machines; none before they are known.
    pub nodes: BTreeSet<IpAddr>,
    pub kernel: Kernel,
    pub told: BTreeMap<String, FirewallRule>,
}

/// What the kernel has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Kernel {
    Nothing,
    /// A table of an agent before this one, or one that somebody has touched.
    #[default]
    Unknown,
    Rules(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Load(String),
    Remove,
    Tell(BTreeMap<String, FirewallRule>),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let Some(config) = &seen.config else { return Plan::Waiting(vec![Missing::new("machine config")]) };
    let mut actions = Vec::new();
    let mut told = BTreeMap::new();
    match config.machine.network.firewall.default_for(&config.cluster.network) {
        FirewallDefault::Accept if seen.kernel != Kernel::Nothing => actions.push(Action::Remove),
        FirewallDefault::Accept => {}
        FirewallDefault::Deny => {
            let openings = openings(config);
            let rules = render::rules(&openings, &seen.nodes);
            told = openings.iter().map(Opening::told).collect();
            if seen.kernel != Kernel::Rules(rules.clone()) {
                actions.push(Action::Load(rules));
            }
        }
    }
    if seen.told != told {
        actions.push(Action::Tell(told));
    }
    Plan::from_actions(actions)
}
