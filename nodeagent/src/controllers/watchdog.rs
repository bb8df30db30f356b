//! Has init use the watchdog's time-out that the machine config says.
//!
//! reads: machine config   writes: nothing on the board

use std::time::Duration;

use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};

#[derive(Debug, Default)]
pub struct Watchdog {
    /// What init was told last. An agent that starts anew tells it again: the same value changes nothing.
    told: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    wanted: Option<Duration>,
    told: Option<Duration>,
}

impl Controller for Watchdog {
    type Seen = Seen;
    type Action = Duration;
    const NAME: &'static str = "watchdog";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let wanted = node.config().map(|applied| applied.config.machine.watchdog.timeout.0);
        Ok(Seen { wanted, told: self.told })
    }

    fn plan(&self, seen: &Seen) -> Plan<Duration> {
        plan(seen)
    }

    async fn apply(&mut self, timeout: Duration, node: &Node) -> anyhow::Result<()> {
        node.init.set_watchdog(timeout).await?;
        self.told = Some(timeout);
        Ok(())
    }
}

fn plan(seen: &Seen) -> Plan<Duration> {
    match seen.wanted {
        None => Plan::Waiting(vec![Missing::new("machine config")]),
        Some(wanted) if seen.told == Some(wanted) => Plan::Settled,
        Some(wanted) => Plan::Act(vec![wanted]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_once_and_again_when_it_changes() {
        let minute = Duration::from_secs(60);
        assert!(matches!(plan(&Seen { wanted: None, told: None }), Plan::Waiting(_)));
        assert_eq!(plan(&Seen { wanted: Some(minute), told: None }), Plan::Act(vec![minute]));
        assert_eq!(plan(&Seen { wanted: Some(minute), told: Some(minute) }), Plan::Settled);
        assert_eq!(plan(&Seen { wanted: Some(2 * minute), told: Some(minute) }), Plan::Act(vec![2 * minute]));
    }
}
