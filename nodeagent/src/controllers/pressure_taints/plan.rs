//! Which Nodes should have the soft taint.

use std::collections::BTreeMap;

use super::is_told;
use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::overlay::ClusterNode;

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    pub may_write: bool,
    pub nodes: BTreeMap<String, ClusterNode>,
    /// Seconds since 1970.
    pub now: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Taint { node: String },
    Untaint { node: String },
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) if machine.is_control_plane() => machine,
        Ok(_) => return Plan::Settled,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    if !seen.may_write {
        return Plan::Waiting(vec![Missing::new("this machine's API server, and manifests")]);
    }
    let taint = &machine.config.cluster.pressure.taint;
    let after = i64::try_from(taint.after.0.as_secs()).unwrap_or(i64::MAX);
    let action = |(name, node): (&String, &ClusterNode)| {
        let mut told = node.pressures.iter().filter(|pressure| is_told(pressure, seen.now));
        // It begins after its time, and ends only with the pressure itself, which has a hysteresis of its own.
        let wanted = taint.enabled && told.any(|pressure| node.pressure_taint || seen.now - pressure.since >= after);
        match (wanted, node.pressure_taint) {
            (true, false) => Some(Action::Taint { node: name.clone() }),
            (false, true) => Some(Action::Untaint { node: name.clone() }),
            _ => None,
        }
    };
    Plan::from_actions(seen.nodes.iter().filter_map(action).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::controllers::fixtures::{changed, machine};
    use crate::resources::overlay::ToldPressure;

    fn pressure(since: i64, heard: i64) -> ToldPressure {
        ToldPressure { resource: "cpu".to_owned(), since, heard }
    }

    fn seen(enabled: bool, now: i64, pressures: Vec<ToldPressure>, tainted: bool) -> Seen {
        let machine = changed(&machine("controlplane"), |config| config.cluster.pressure.taint.enabled = enabled);
        let node = ClusterNode { pressures, pressure_taint: tainted, ..ClusterNode::default() };
        Seen { machine: Ok(machine), may_write: true, nodes: BTreeMap::from([("a".to_owned(), node)]), now }
    }

    #[test]
    fn it_comes_after_its_time_and_goes_with_the_pressure() {
        let (taint, untaint) =
            (Plan::Act(vec![Action::Taint { node: "a".to_owned() }]), Plan::Act(vec![Action::Untaint { node: "a".to_owned() }]));
        for (enabled, now, pressures, tainted, expected) in [
            (true, 129, vec![pressure(100, 100)], false, Plan::Settled),
            (true, 130, vec![pressure(100, 100)], false, taint.clone()),
            (true, 130, vec![pressure(100, 100)], true, Plan::Settled),
            (true, 130, vec![], true, untaint.clone()),
            (false, 130, vec![pressure(100, 100)], false, Plan::Settled),
            (false, 130, vec![pressure(100, 100)], true, untaint.clone()),
            // An agent that restarts says that it begins now: no reason to take it away in between.
            (true, 130, vec![pressure(129, 129)], true, Plan::Settled),
            // Its agent has fallen silent.
            (true, 2000, vec![pressure(100, 400)], true, untaint.clone()),
        ] {
            assert_eq!(plan(&seen(enabled, now, pressures.clone(), tainted)), expected, "{enabled} at {now}: {pressures:?}, {tainted}");
        }
    }

    #[test]
    fn workers_leave_it_to_control_planes() {
        assert_eq!(plan(&Seen { machine: Ok(machine("worker")), ..seen(true, 500, vec![pressure(1, 499)], false) }), Plan::Settled);
    }

    proptest! {
        #[test]
        fn applied_is_settled(enabled: bool, tainted: bool, now in 0..5000_i64, since in 0..2000_i64, heard in 0..2000_i64) {
            let mut seen = seen(enabled, now, vec![pressure(since, heard)], tainted);
            if let Plan::Act(actions) = plan(&seen) {
                for action in actions {
                    let (Action::Taint { node } | Action::Untaint { node }) = &action;
                    seen.nodes.get_mut(node).unwrap().pressure_taint = matches!(action, Action::Taint { .. });
                }
            }
            prop_assert_eq!(plan(&seen), Plan::Settled);
        }
    }
}
