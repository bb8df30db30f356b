//! Which conditions of pressure the Node should have.

use std::collections::BTreeMap;

use metrics::trigger::Resource;

use super::condition_type;
use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::pressure::{Pressure, PressureState};

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// Type to status, all that the Node has; none until the kubelet registered it.
    pub conditions: Option<BTreeMap<String, String>>,
    /// By resource.
    pub pressures: BTreeMap<String, Pressure>,
    pub api_server_ready: bool,
    /// It is time to say again what is still so.
    pub heartbeat_due: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// All that are ours; those that are no longer among them go.
    Apply(Vec<Condition>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub kind: &'static str,
    /// True, False or Unknown.
    pub status: String,
    pub reason: &'static str,
    pub message: String,
    /// RFC 3339, UTC.
    pub since: String,
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let Some(has) = seen.conditions.as_ref().filter(|_| seen.api_server_ready) else {
        return Plan::Waiting(vec![Missing::new(format!("Node {}", machine.facts.node_name))]);
    };
    let mut wanted = Vec::new();
    if machine.config.machine.pressure.conditions {
        for resource in Resource::ALL {
            let Some(pressure) = seen.pressures.get(resource.name()) else {
                return Plan::Waiting(vec![Missing::new(format!("pressure {}", resource.name()))]);
            };
            wanted.extend(condition(resource, pressure, has.get(condition_type(resource))));
        }
    }
    let ours = Resource::ALL.into_iter().filter_map(|resource| has.get_key_value(condition_type(resource)));
    let settled = ours.clone().count() == wanted.len() && wanted.iter().all(|wanted| has.get(wanted.kind) == Some(&wanted.status));
    let raised = wanted.iter().any(|wanted| wanted.status == "True");
    if settled && !(raised && seen.heartbeat_due) { Plan::Settled } else { Plan::Act(vec![Action::Apply(wanted)]) }
}

/// None for what is not watched. `has` is the status that the Node has: it stays as long as nothing else is known.
fn condition(resource: Resource, pressure: &Pressure, has: Option<&String>) -> Option<Condition> {
    let calm = || (String::from("False"), "Calm", format!("no stall of {}", pressure.threshold));
    let (status, reason, message) = match pressure.state {
        PressureState::Off => return None,
        PressureState::Settling => match has.filter(|has| *has != "Unknown") {
            Some(has) => (has.clone(), "AgentStarted", "the agent has just begun to watch".to_owned()),
            None => calm(),
        },
        PressureState::Calm => calm(),
        PressureState::Raised => ("True".to_owned(), "TasksStall", pressure.message.clone()),
        PressureState::Unknown => ("Unknown".to_owned(), "KernelDoesNotTell", pressure.message.clone()),
    };
    Some(Condition { kind: condition_type(resource), status, reason, message, since: pressure.since.clone() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::controllers::fixtures::{changed, machine};

    fn pressure(state: PressureState) -> Pressure {
        let (since, threshold) = ("2026-01-01T00:00:00Z".to_owned(), "some for 800ms within 1s".to_owned());
        Pressure { state, since, threshold, times: 1, message: "m".to_owned() }
    }

    fn seen(states: [PressureState; 3]) -> Seen {
        let pressures = Resource::ALL.iter().zip(states).map(|(resource, state)| (resource.name().to_owned(), pressure(state))).collect();
        let conditions = Some(BTreeMap::from([("MemoryPressure".to_owned(), "True".to_owned())]));
        Seen { machine: Ok(machine("worker")), conditions, pressures, api_server_ready: true, heartbeat_due: false }
    }

    /// As the API server carries it out; how many actions there were.
    fn apply(seen: &mut Seen) -> usize {
        let Plan::Act(actions) = plan(seen) else { return 0 };
        let has = seen.conditions.as_mut().unwrap();
        for Action::Apply(conditions) in &actions {
            has.retain(|kind, _| !kind.starts_with("corten.dev/"));
            has.extend(conditions.iter().map(|condition| (condition.kind.to_owned(), condition.status.clone())));
        }
        seen.heartbeat_due = false;
        actions.len()
    }

    fn has(seen: &Seen) -> Vec<(&str, &str)> {
        seen.conditions.iter().flatten().map(|(kind, status)| (kind.as_str(), status.as_str())).collect()
    }

    #[test]
    fn each_state_has_its_condition_and_the_kubelets_stay() {
        let mut seen = seen([PressureState::Raised, PressureState::Unknown, PressureState::Off]);
        assert_eq!(apply(&mut seen), 1);
        let expected = [("MemoryPressure", "True"), ("corten.dev/CPUPressure", "True"), ("corten.dev/MemoryPressure", "Unknown")];
        assert_eq!(has(&seen), expected);
        seen.machine = Ok(changed(&machine("worker"), |config| config.machine.pressure.conditions = false));
        assert_eq!(apply(&mut seen), 1);
        assert_eq!(has(&seen), [("MemoryPressure", "True")]);
    }

    #[test]
    fn an_agent_that_starts_anew_leaves_a_raised_condition_until_it_knows() {
        let mut seen = seen([PressureState::Settling, PressureState::Calm, PressureState::Calm]);
        seen.conditions.as_mut().unwrap().insert("corten.dev/CPUPressure".to_owned(), "True".to_owned());
        apply(&mut seen);
        assert_eq!(has(&seen)[1], ("corten.dev/CPUPressure", "True"));
        seen.pressures.insert("cpu".to_owned(), pressure(PressureState::Calm));
        apply(&mut seen);
        assert_eq!(has(&seen)[1], ("corten.dev/CPUPressure", "False"));
    }

    #[test]
    fn only_what_is_raised_is_said_again() {
        let mut calm = seen([PressureState::Calm; 3]);
        apply(&mut calm);
        calm.heartbeat_due = true;
        assert_eq!(plan(&calm), Plan::Settled);
        let mut raised = seen([PressureState::Raised, PressureState::Calm, PressureState::Calm]);
        apply(&mut raised);
        raised.heartbeat_due = true;
        assert_eq!(apply(&mut raised), 1);
    }

    #[test]
    fn it_waits_for_the_node_and_for_the_watch() {
        let early = Seen { conditions: None, ..seen([PressureState::Calm; 3]) };
        assert_eq!(plan(&early), Plan::Waiting(vec![Missing::new("Node cp-1")]));
        let early = Seen { pressures: BTreeMap::new(), ..seen([PressureState::Calm; 3]) };
        assert_eq!(plan(&early), Plan::Waiting(vec![Missing::new("pressure cpu")]));
    }

    proptest! {
        #[test]
        fn applied_is_settled(steps in proptest::collection::vec((0..5_usize, 0..5_usize, 0..5_usize, any::<bool>()), 1..8)) {
            const STATES: [PressureState; 5] =
                [PressureState::Settling, PressureState::Calm, PressureState::Raised, PressureState::Unknown, PressureState::Off];
            let mut now = seen([PressureState::Calm; 3]);
            for (cpu, memory, io, on) in steps {
                now.pressures = seen([STATES[cpu], STATES[memory], STATES[io]]).pressures;
                now.machine = Ok(changed(&machine("worker"), |config| config.machine.pressure.conditions = on));
                apply(&mut now);
                prop_assert_eq!(plan(&now), Plan::Settled);
                prop_assert_eq!(now.conditions.as_ref().unwrap()["MemoryPressure"].as_str(), "True");
            }
        }
    }
}
