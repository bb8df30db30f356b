//! Which control planes' agents answer, as this one knows: itself by what it has, the others by their streams, which fall silent when they die.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::is_wanted;
use super::sources::Sources;
use crate::controllers::machine::Machine;
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::metrics_api::{MetricsServer, ServerState};

/// How often to look. The board changes only with a state.
const EVERY: Duration = Duration::from_millis(500);
/// Agents tell something each second.
const SILENT: Duration = Duration::from_secs(3);

pub async fn publish(sources: Sources) {
    let mut look = tokio::time::interval(EVERY);
    loop {
        look.tick().await;
        let states = Machine::observe(&sources.node).ok().filter(is_wanted).map(|machine| states(&sources, &machine, Instant::now()));
        sources.node.store.replace(states.unwrap_or_default());
    }
}

fn states(sources: &Sources, machine: &Machine, now: Instant) -> BTreeMap<String, MetricsServer> {
    let own = &machine.facts.node_name;
    let members = sources.node.store.all::<EtcdMember>();
    let others = members.into_iter().filter(|(name, member)| name != own && member.role != EtcdRole::Removed);
    let others = others.map(|(name, _)| {
        let state = match sources.cluster.silence(&name, now) {
            Some(silence) if silence < SILENT => ServerState::Heard,
            None if !sources.waited(now) => ServerState::Unknown,
            _ => ServerState::Silent,
        };
        (name, MetricsServer { state })
    });
    let state = if sources.answer(now) { ServerState::Answering } else { ServerState::Starting };
    others.chain([(own.clone(), MetricsServer { state })]).collect()
}
