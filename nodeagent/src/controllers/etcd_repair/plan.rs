//! What is next of a repair.

use controlplane::bootstrap::Record;

use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::etcd_repair::Repair;

#[derive(Debug, Clone)]
pub struct Seen {
    pub repair: Option<Repair>,
    /// etcd does not run.
    pub stopped: bool,
    /// The database that etcd is to begin anew with waits.
    pub staged: bool,
    /// etcd leads a cluster that agrees.
    pub alone: bool,
    pub machine: Result<Machine, Vec<Missing>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Put what etcd has aside, and the database that waits in its place.
    Place,
    /// Write to STATE how etcd is to start on what it has now.
    Record(Box<Record>),
    /// Note in etcd's log that the database stands for its beginning.
    Seal,
    /// Have all of etcd's log count.
    CommitAll,
    /// Note that the next step is this.
    Proceed(Repair),
    /// Remove etcd's data, and the record of it.
    Wipe,
    End,
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let wait = |noun: &str| Plan::Waiting(vec![Missing::new(noun)]);
    let Some(repair) = &seen.repair else { return Plan::Settled };
    let machine = match &seen.machine {
        Ok(machine) => machine,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    if repair.stops_etcd() && !seen.stopped {
        return wait("etcd to stop");
    }
    Plan::Act(match repair {
        Repair::Restore { token } => {
            let record = Record::restored(&machine.config.cluster.name, &machine.facts.node_name, token);
            let place = seen.staged.then_some(Action::Place);
            place.into_iter().chain([Action::Record(Box::new(record)), Action::Proceed(Repair::Settle)]).collect()
        }
        Repair::Settle if seen.alone => vec![Action::Proceed(Repair::Seal)],
        Repair::Seal => vec![Action::Seal, Action::End],
        Repair::Recover => vec![Action::CommitAll, Action::Proceed(Repair::Force)],
        Repair::Force if seen.alone => vec![Action::End],
        Repair::Settle | Repair::Force => return wait("etcd to lead a cluster of its own"),
        Repair::Rejoin => vec![Action::Wipe, Action::End],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::fixtures::machine;

    fn seen(repair: Option<Repair>) -> Seen {
        Seen { repair, stopped: true, staged: true, alone: false, machine: Ok(machine("controlplane")) }
    }

    fn restore() -> Repair {
        Repair::Restore { token: "restored-1".to_owned() }
    }

    #[test]
    fn nothing_is_touched_before_etcd_has_ended() {
        assert_eq!(plan(&seen(None)), Plan::Settled);
        for repair in [restore(), Repair::Seal, Repair::Recover, Repair::Rejoin] {
            assert_eq!(plan(&Seen { stopped: false, ..seen(Some(repair)) }), Plan::Waiting(vec![Missing::new("etcd to stop")]));
        }
    }

    #[test]
    fn a_restore_that_was_cut_goes_on_where_it_was() {
        let Plan::Act(whole) = plan(&seen(Some(restore()))) else { panic!("there is something to do") };
        let Plan::Act(rest) = plan(&Seen { staged: false, ..seen(Some(restore())) }) else { panic!("there is something to do") };
        assert_eq!((whole.first(), &whole[1..]), (Some(&Action::Place), &rest[..]));
        assert_eq!(rest.last(), Some(&Action::Proceed(Repair::Settle)));
        assert_eq!(
            plan(&Seen { stopped: false, alone: true, ..seen(Some(Repair::Settle)) }),
            Plan::Act(vec![Action::Proceed(Repair::Seal)])
        );
        assert_eq!(plan(&seen(Some(Repair::Seal))), Plan::Act(vec![Action::Seal, Action::End]));
        let Action::Record(record) = &rest[0] else { panic!("{rest:?}") };
        assert_eq!(record.token.as_deref(), Some("restored-1"));
    }

    #[test]
    fn the_log_counts_before_etcd_goes_on_alone() {
        assert_eq!(plan(&seen(Some(Repair::Recover))), Plan::Act(vec![Action::CommitAll, Action::Proceed(Repair::Force)]));
        assert!(matches!(plan(&Seen { stopped: false, ..seen(Some(Repair::Force)) }), Plan::Waiting(_)));
        assert_eq!(plan(&Seen { stopped: false, alone: true, ..seen(Some(Repair::Force)) }), Plan::Act(vec![Action::End]));
    }
}
