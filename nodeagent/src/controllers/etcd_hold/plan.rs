//! Whether etcd is to be held, or let go.

use machine::version::Minor;

use crate::plan::{Missing, Plan};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The version that etcd is to be held to: that of the image before, while this one is on trial.
    pub wanted: Option<Minor>,
    /// The version that this machine has held it to; it is let go by the one who held it, not by others whose images are known to be good.
    pub noted: Option<Minor>,
    /// None while etcd does not answer, and where nobody needs to know.
    pub cluster: Option<Cluster>,
}

/// What etcd says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    pub held: Option<Minor>,
    /// Whether it can be held now: all members are new, and the cluster's version has risen.
    pub can_be_held: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Note on STATE that it is held to this version: before it is.
    Note(Minor),
    Hold(Minor),
    Release,
    Forget,
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let actions = match (seen.wanted, seen.noted, seen.cluster) {
        (None, None, _) => Vec::new(),
        (Some(_), _, None) | (None, Some(_), None) => return Plan::Waiting(vec![Missing::new("etcd")]),
        (Some(wanted), noted, Some(cluster)) => {
            let note = Some(Action::Note(wanted)).filter(|_| noted != Some(wanted));
            match cluster {
                Cluster { held: Some(_), .. } => note.into_iter().collect(),
                Cluster { held: None, can_be_held: true } => note.into_iter().chain([Action::Hold(wanted)]).collect(),
                // Another member is as old: until that changes the cluster is what it was. Or etcd has only just started.
                Cluster { held: None, can_be_held: false } => Vec::new(),
            }
        }
        (None, Some(noted), Some(cluster)) => {
            let release = Some(Action::Release).filter(|_| cluster.held == Some(noted));
            release.into_iter().chain([Action::Forget]).collect()
        }
    };
    Plan::from_actions(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Minor = Minor { major: 3, minor: 6 };
    const OTHER: Minor = Minor { major: 3, minor: 5 };

    fn seen(wanted: Option<Minor>, noted: Option<Minor>, cluster: Option<(Option<Minor>, bool)>) -> Seen {
        Seen { wanted, noted, cluster: cluster.map(|(held, can_be_held)| Cluster { held, can_be_held }) }
    }

    #[test]
    fn cases() {
        use Action::{Forget, Hold, Note, Release};
        let old = Some(OLD);
        for (wanted, noted, cluster, expected) in [
            (None, None, None, vec![]),
            (None, None, Some((old, false)), vec![]),
            (old, None, Some((None, false)), vec![]),
            (old, None, Some((None, true)), vec![Note(OLD), Hold(OLD)]),
            (old, old, Some((None, true)), vec![Hold(OLD)]),
            (old, old, Some((old, false)), vec![]),
            (old, None, Some((old, false)), vec![Note(OLD)]),
            (None, old, Some((old, false)), vec![Release, Forget]),
            // It fell back, and etcd let itself go; or somebody holds it to something else.
            (None, old, Some((None, false)), vec![Forget]),
            (None, old, Some((Some(OTHER), false)), vec![Forget]),
        ] {
            assert_eq!(plan(&seen(wanted, noted, cluster)), Plan::from_actions(expected), "{wanted:?} {noted:?} {cluster:?}");
        }
        for (wanted, noted) in [(old, None), (old, old), (None, old)] {
            assert!(matches!(plan(&seen(wanted, noted, None)), Plan::Waiting(_)));
        }
    }

    #[test]
    fn applied_is_settled() {
        for wanted in [None, Some(OLD)] {
            for noted in [None, Some(OLD)] {
                for held in [None, Some(OLD)] {
                    let mut now = seen(wanted, noted, Some((held, held.is_none())));
                    if let Plan::Act(actions) = plan(&now) {
                        for action in actions {
                            match action {
                                Action::Note(version) => now.noted = Some(version),
                                Action::Forget => now.noted = None,
                                Action::Hold(version) => now.cluster = Some(Cluster { held: Some(version), can_be_held: false }),
                                Action::Release => now.cluster = Some(Cluster { held: None, can_be_held: true }),
                            }
                        }
                    }
                    assert_eq!(plan(&now), Plan::Settled, "{now:?}");
                }
            }
        }
    }
}
