//! Has the API servers ask the control planes' agents for metrics.k8s.io and custom.metrics.k8s.io: one APIService each, a Service, and an
//! EndpointSlice of this machine's own, which says whether it answers. A control plane that falls silent is marked by the others; one that was marked in
//! error says again that it answers, a few times a minute at the most.
//!
//! An API that somebody else serves (metrics-server, an adapter) is theirs; once they are gone, it is served from here again.
//!
//! reads: machine config, hostname, node IPs, API servers, manifestsets, metricsservers, etcdmembers; APIServices, Service, EndpointSlices
//! writes: metricsapis; APIServices, Service kube-system/corten-metrics and its EndpointSlices

mod apply;
mod observe;
mod plan;
mod returns;

use std::time::Duration;

use tokio::time::Instant;

use super::machine::Machine;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
pub use apply::leave;
use plan::{Action, Seen};
use returns::Returns;

/// Owner of the objects' fields.
pub const FIELD_MANAGER: &str = "corten-metrics";

#[derive(Debug, Default)]
pub struct MetricsApis {
    returns: Returns,
}

impl Controller for MetricsApis {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "metricsapi";
    const WAKE: Wake = Wake::WhatItReads;
    /// Nobody tells who else takes an API over, or marks this machine.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let seen = observe::observe(node).await?;
        Ok(Seen { may_return: self.returns.are_few(Instant::now()), ..seen })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
        let returns = matches!(&action, Action::PutSlice { node, ready: true, .. } if *node == machine.facts.node_name);
        apply::apply(action, &machine, node).await?;
        if returns {
            self.returns.add(Instant::now());
        }
        Ok(())
    }
}
