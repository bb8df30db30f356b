//! Has init open the volumes that the machine's role calls for.
//!
//! reads: machine config, volumes   writes: nothing on the board: init tells of its volumes itself

use machine::config::Role;
use machine::disk::Volume;
use machine::protocol::VolumeState;

use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::{Missing, Plan};
use crate::resources::services;

#[derive(Debug)]
pub struct Volumes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    role: Option<Role>,
    /// What init tells; none before it told anything.
    states: Vec<(Volume, Option<VolumeState>)>,
}

impl Controller for Volumes {
    type Seen = Seen;
    type Action = Volume;
    const NAME: &'static str = "volumes";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let role = node.config().map(|applied| applied.config.machine.role);
        let state = |volume: Volume| (volume, services::volume_state(&node.store, volume));
        Ok(Seen { role, states: Volume::ALL.map(state).to_vec() })
    }

    fn plan(&self, seen: &Seen) -> Plan<Volume> {
        plan(seen)
    }

    /// The answer comes when the volume is open or broken; in between the board shows it as opening.
    async fn apply(&mut self, volume: Volume, node: &Node) -> anyhow::Result<()> {
        let status = node.init.open_volume(volume).await?;
        node.store.put(&services::volume_name(volume), &status);
        Ok(())
    }
}

fn plan(seen: &Seen) -> Plan<Volume> {
    let Some(role) = seen.role else { return Plan::Waiting(vec![Missing::new("machine config")]) };
    let wanted = wanted(role);
    let mut closed = Vec::new();
    let mut missing = Vec::new();
    for (volume, state) in seen.states.iter().filter(|(volume, _)| wanted.contains(volume)) {
        let name = services::volume_name(*volume);
        match state {
            Some(VolumeState::Open) => {}
            None | Some(VolumeState::Closed | VolumeState::Opening) => closed.push(*volume),
            Some(VolumeState::Missing) => missing.push(Missing::new(format!("a partition for volume {name}"))),
            Some(VolumeState::Broken { reason }) => missing.push(Missing::new(format!("volume {name}, which is broken: {reason}"))),
        }
    }
    if closed.is_empty() && !missing.is_empty() { Plan::Waiting(missing) } else { Plan::from_actions(closed) }
}

/// STATE is init's own business. EPHEMERAL comes last: logs and containers can wait, etcd is what all others wait for.
fn wanted(role: Role) -> &'static [Volume] {
    match role {
        Role::ControlPlane => &[Volume::Etcd, Volume::Ephemeral],
        Role::Worker => &[Volume::Ephemeral],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = Option<VolumeState>> {
        let broken = VolumeState::Broken { reason: "superblock".to_owned() };
        let states = [VolumeState::Missing, VolumeState::Closed, VolumeState::Opening, VolumeState::Open, broken];
        proptest::option::of(proptest::sample::select(states.to_vec()))
    }

    proptest! {
        #[test]
        fn opened_is_settled_or_waits_for_what_cannot_be_opened(etcd in any_state(), ephemeral in any_state(), worker: bool) {
            let role = if worker { Role::Worker } else { Role::ControlPlane };
            let mut seen = Seen { role: Some(role), states: vec![(Volume::Etcd, etcd), (Volume::Ephemeral, ephemeral)] };
            if let Plan::Act(volumes) = plan(&seen) {
                for (volume, state) in &mut seen.states {
                    if volumes.contains(volume) {
                        *state = Some(VolumeState::Open);
                    }
                }
            }
            let hopeless = |state: &Option<VolumeState>| matches!(state, Some(VolumeState::Missing | VolumeState::Broken { .. }));
            let mut wanted = seen.states.iter().filter(|(volume, _)| wanted(role).contains(volume));
            match plan(&seen) {
                Plan::Settled => prop_assert!(wanted.all(|(_, state)| *state == Some(VolumeState::Open))),
                Plan::Waiting(_) => prop_assert!(wanted.any(|(_, state)| hopeless(state))),
                Plan::Act(volumes) => prop_assert!(false, "{volumes:?} again"),
            }
        }
    }

    #[test]
    fn a_worker_has_no_etcd_volume() {
        let seen = Seen { role: Some(Role::Worker), states: Volume::ALL.map(|volume| (volume, None)).to_vec() };
        assert_eq!(plan(&seen), Plan::Act(vec![Volume::Ephemeral]));
    }
}
