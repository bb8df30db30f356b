//! What has to be done before kube-proxy can run in another mode.

use machine::config::ProxyMode;

use crate::controllers::service;
use crate::plan::Plan;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The mode that kube-proxy should run in; nothing while that cannot be said yet.
    pub wanted: Option<ProxyMode>,
    /// The mode whose rules may be in the kernel.
    pub in_place: Option<ProxyMode>,
    /// init has the service, or was told of it.
    pub running: bool,
    /// What is to do of the program and its files.
    pub program: Plan<service::Action>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ends it, and waits for its end: it would bring its rules back.
    Stop,
    /// Takes away the rules of one mode, and the file that tells of them.
    Clean {
        of: ProxyMode,
        to: ProxyMode,
    },
    /// Says that the mode has no future.
    Warn,
    Program(service::Action),
}

/// A cut at any place begins anew where it was: the config of the old mode goes last.
pub fn plan(seen: &Seen) -> Plan<Action> {
    if let (Some(to), Some(of)) = (seen.wanted, seen.in_place)
        && to != of
    {
        let stop = seen.running.then_some(Action::Stop);
        return Plan::Act(stop.into_iter().chain([Action::Clean { of, to }]).collect());
    }
    match &seen.program {
        Plan::Settled => Plan::Settled,
        Plan::Waiting(missing) => Plan::Waiting(missing.clone()),
        Plan::Act(actions) => {
            let begins = seen.wanted == Some(ProxyMode::Ipvs) && seen.in_place.is_none();
            let warning = begins.then_some(Action::Warn);
            Plan::Act(warning.into_iter().chain(actions.iter().cloned().map(Action::Program)).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Missing;

    const MODES: [ProxyMode; 4] = [ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::Ipvs, ProxyMode::None];

    fn seen(wanted: ProxyMode, in_place: Option<ProxyMode>) -> Seen {
        Seen { wanted: Some(wanted), in_place, running: true, program: Plan::Settled }
    }

    fn remove() -> service::Action {
        service::Action::RemoveService(service::id(super::super::ID).unwrap())
    }

    #[test]
    fn every_switch_ends_the_program_before_its_rules_go() {
        for of in [ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::Ipvs] {
            for to in MODES.into_iter().filter(|to| *to != of) {
                // Whatever else there would be to do has to wait.
                let seen = Seen { program: Plan::Act(vec![remove()]), ..seen(to, Some(of)) };
                assert_eq!(plan(&seen), Plan::Act(vec![Action::Stop, Action::Clean { of, to }]));
                // As after a cut between the two.
                assert_eq!(plan(&Seen { running: false, ..seen }), Plan::Act(vec![Action::Clean { of, to }]));
            }
        }
    }

    #[test]
    fn the_same_mode_and_the_first_one_clean_nothing() {
        for mode in MODES {
            assert_eq!(plan(&seen(mode, Some(mode))), Plan::Settled);
            assert_eq!(plan(&seen(mode, None)), Plan::Settled);
            let acts = Seen { program: Plan::Act(vec![remove()]), ..seen(mode, Some(mode)) };
            assert_eq!(plan(&acts), Plan::Act(vec![Action::Program(remove())]));
        }
    }

    #[test]
    fn what_runs_goes_on_while_the_next_cannot_start() {
        let missing = vec![Missing::new("certificate kube-proxy")];
        let waits = Seen { wanted: None, program: Plan::Waiting(missing.clone()), ..seen(ProxyMode::Ipvs, Some(ProxyMode::Nftables)) };
        assert_eq!(plan(&waits), Plan::Waiting(missing));
    }

    #[test]
    fn ipvs_is_warned_of_when_it_begins() {
        let begins = Seen { program: Plan::Act(vec![remove()]), ..seen(ProxyMode::Ipvs, None) };
        assert_eq!(plan(&begins), Plan::Act(vec![Action::Warn, Action::Program(remove())]));
        let nftables = Seen { wanted: Some(ProxyMode::Nftables), ..begins };
        assert_eq!(plan(&nftables), Plan::Act(vec![Action::Program(remove())]));
    }
}
