//! Whether manifests have to be applied.

use std::hash::{DefaultHasher, Hash, Hasher};

use controlplane::bootstrap::{Origin, Progress};
use controlplane::manifests::Manifest;

use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::bootstrap::Bootstrap;
use crate::resources::cluster::ManifestStatus;

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// Empty on workers.
    pub wanted: Vec<Manifest>,
    pub api_server_ready: bool,
    /// What this agent applied last.
    pub applied: Option<ManifestStatus>,
    pub bootstrap: Option<Bootstrap>,
}

#[derive(Debug, Clone)]
pub enum Action {
    Apply {
        manifests: Vec<Manifest>,
        status: ManifestStatus,
    },
    /// The cluster is made: from now on missing data is a loss.
    Complete(Bootstrap),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) if machine.is_control_plane() => machine,
        Ok(_) => return Plan::Settled,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    if machine.config.cluster.certificate_authorities.kubernetes.key.is_none() {
        return Plan::Waiting(vec![Missing::new("key of authority kubernetes")]);
    }
    if !seen.api_server_ready {
        return Plan::Waiting(vec![Missing::new("API server")]);
    }
    let status = status(&seen.wanted);
    let mut actions = Vec::new();
    if seen.applied.as_ref() != Some(&status) {
        actions.push(Action::Apply { manifests: seen.wanted.clone(), status });
    }
    let made_here = |bootstrap: &Bootstrap| bootstrap.record.origin == Origin::Bootstrap && bootstrap.record.progress == Progress::Started;
    if let Some(bootstrap) = seen.bootstrap.clone().filter(made_here) {
        actions.push(Action::Complete(Bootstrap { record: bootstrap.record.completed(), ..bootstrap }));
    }
    Plan::from_actions(actions)
}

/// What the board says once they are applied.
fn status(manifests: &[Manifest]) -> ManifestStatus {
    let mut hasher = DefaultHasher::new();
    for manifest in manifests {
        manifest.object.to_string().hash(&mut hasher);
    }
    ManifestStatus { objects: manifests.iter().map(ToString::to_string).collect(), digest: format!("{:016x}", hasher.finish()) }
}

#[cfg(test)]
mod tests;
