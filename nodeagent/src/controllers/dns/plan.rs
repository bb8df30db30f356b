//! Whether the cluster's DNS has to be scaled.

use controlplane::manifests::coredns::{ClusterSize, replicas};

use crate::controllers::machine::{Machine, missing};
use crate::plan::{Missing, Plan};
use crate::resources::dns::DnsScale;

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// This control plane's API server answers, and the Deployment was applied.
    pub applied: bool,
    pub size: ClusterSize,
    /// None where there is no Deployment: whoever deleted it brings a DNS of their own.
    pub scale: Option<Scale>,
    /// What the board says.
    pub told: Option<DnsScale>,
}

/// What the Deployment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    pub replicas: i32,
    pub owner: Owner,
}

/// Whose the number of replicas is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Corten,
    /// Somebody else wrote it, and it is to be Corten's again.
    GivenBack,
    /// A field manager's.
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// With force it is taken from whoever wrote it.
    Scale { replicas: i32, force: bool },
    /// Puts it on the board.
    Tell(Option<DnsScale>),
}

/// A control plane that holds the key of the authority, by which it writes.
pub fn is_concerned(machine: &Machine) -> bool {
    machine.is_control_plane() && machine.config.cluster.certificate_authorities.kubernetes.key.is_some()
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    match &seen.machine {
        Ok(machine) if is_concerned(machine) => {}
        Ok(_) => return Plan::from_actions(tell(seen, None)),
        Err(missing) => return Plan::Waiting(missing.clone()),
    }
    // Without any Node it is not known yet how many there are.
    let missing = missing([(seen.applied, "manifests"), (seen.size.nodes > 0, "Nodes")]);
    if !missing.is_empty() {
        return Plan::Waiting(missing);
    }
    let Some(scale) = &seen.scale else { return Plan::from_actions(tell(seen, None)) };
    let fitting = replicas(seen.size);
    let (decided_by, force) = match &scale.owner {
        Owner::Corten => ("corten", false),
        Owner::GivenBack => ("corten", true),
        Owner::Other(manager) => (manager.as_str(), false),
    };
    let ours = !matches!(scale.owner, Owner::Other(_));
    let mut actions = Vec::new();
    if ours && (scale.replicas != fitting || force) {
        actions.push(Action::Scale { replicas: fitting, force });
    }
    let replicas = if ours { fitting } else { scale.replicas };
    actions.extend(tell(seen, Some(DnsScale { replicas, fitting, decided_by: decided_by.to_owned(), nodes: seen.size.nodes })));
    Plan::from_actions(actions)
}

fn tell(seen: &Seen, status: Option<DnsScale>) -> Vec<Action> {
    if seen.told == status { Vec::new() } else { vec![Action::Tell(status)] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::fixtures::machine;

    fn seen(nodes: u64, replicas: i32, owner: Owner) -> Seen {
        Seen {
            machine: Ok(machine("controlplane")),
            applied: true,
            size: ClusterSize { nodes, cpu_millis: nodes * 2000 },
            scale: Some(Scale { replicas, owner }),
            told: None,
        }
    }

    /// Carries a plan out as the API server would; the number of replicas after it.
    fn apply(seen: &mut Seen) -> Option<i32> {
        if let Plan::Act(actions) = plan(seen) {
            for action in actions {
                match action {
                    Action::Scale { replicas, .. } => seen.scale = Some(Scale { replicas, owner: Owner::Corten }),
                    Action::Tell(status) => seen.told = status,
                }
            }
        }
        assert_eq!(plan(seen), Plan::Settled, "{seen:?}");
        seen.scale.as_ref().map(|scale| scale.replicas)
    }

    #[test]
    fn it_follows_the_cluster_until_somebody_else_decides() {
        for (nodes, replicas, owner, expected) in [
            (1, 1, Owner::Corten, 1),
            (2, 1, Owner::Corten, 2),
            (40, 2, Owner::Corten, 3),
            (1, 2, Owner::Corten, 1),
            (40, 7, Owner::Other("kubectl".to_owned()), 7),
            (40, 0, Owner::Other("kubectl".to_owned()), 0),
            (40, 7, Owner::GivenBack, 3),
            (40, 3, Owner::GivenBack, 3),
        ] {
            let mut seen = seen(nodes, replicas, owner.clone());
            assert_eq!(apply(&mut seen), Some(expected), "{nodes} nodes, {replicas} replicas of {owner:?}");
        }
    }

    #[test]
    fn who_decides_is_told() {
        let mut seen = seen(3, 5, Owner::Other("keda".to_owned()));
        apply(&mut seen);
        assert_eq!(seen.told, Some(DnsScale { replicas: 5, fitting: 2, decided_by: "keda".to_owned(), nodes: 3 }));
        seen.scale = None;
        assert_eq!(apply(&mut seen), None);
        assert_eq!(seen.told, None);
    }

    #[test]
    fn it_waits_until_the_cluster_is_known() {
        let early = Seen { applied: false, ..seen(0, 1, Owner::Corten) };
        assert_eq!(plan(&early), Plan::Waiting(vec![Missing::new("manifests"), Missing::new("Nodes")]));
        assert_eq!(plan(&Seen { machine: Ok(machine("worker")), ..early }), Plan::Settled);
    }
}
