//! What has to be written down, applied and pruned, in this order.

use std::hash::{DefaultHasher, Hash, Hasher};

use controlplane::bootstrap::{Origin as Making, Progress};
use controlplane::manifests::{Manifest, Origin, Reference};

use crate::controllers::machine::Machine;
use crate::plan::{Missing, Plan};
use crate::resources::bootstrap::Bootstrap;
use crate::resources::manifests::{ManifestSet, ManifestStatus};

#[derive(Debug)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    /// In the order in which to apply them; empty on workers.
    pub wanted: Vec<Wanted>,
    /// Of all that is wanted.
    pub digest: String,
    pub api_server_ready: bool,
    /// The cluster's inventory holds all of them.
    pub recorded: bool,
    pub prune_due: bool,
    /// What the board says.
    pub set: Option<ManifestSet>,
    pub bootstrap: Option<Bootstrap>,
}

/// An object, and what is known of it.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub id: String,
    pub manifest: Manifest,
    pub digest: String,
    /// What became of it when it was tried last.
    pub told: Option<ManifestStatus>,
    /// It was not tried a moment ago.
    pub due: bool,
}

#[derive(Debug, Clone)]
pub enum Action {
    /// Writes objects down before they are made: a power cut in between leaves nothing behind that nobody knows of.
    Record {
        digest: String,
        references: Vec<Reference>,
    },
    Apply(Vec<Wanted>),
    /// Puts it on the board.
    Tell(ManifestSet),
    /// The cluster is made: from now on missing data is a loss.
    Complete(Bootstrap),
    /// Deletes what no control plane wants any more.
    Prune {
        references: Vec<Reference>,
        set: ManifestSet,
    },
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
    let references = || seen.wanted.iter().map(|wanted| wanted.manifest.reference.clone()).collect();
    if !seen.recorded {
        return Plan::Act(vec![Action::Record { digest: seen.digest.clone(), references: references() }]);
    }
    let to_try: Vec<Wanted> = seen.wanted.iter().filter(|wanted| wanted.is_to_be_tried()).cloned().collect();
    if !to_try.is_empty() {
        return Plan::Act(vec![Action::Apply(to_try)]);
    }
    let own_missing: Vec<Missing> = seen.wanted.iter().filter(|wanted| wanted.is_missed()).map(|wanted| Missing::new(&wanted.id)).collect();
    if !own_missing.is_empty() {
        return Plan::Waiting(own_missing);
    }
    let told = seen.set.as_ref().filter(|set| set.digest == seen.digest);
    let mut actions = Vec::new();
    if told.is_none() {
        actions.push(Action::Tell(ManifestSet { objects: seen.wanted.len(), digest: seen.digest.clone(), pruned: false }));
    }
    let made_here = |bootstrap: &Bootstrap| bootstrap.record.origin == Making::Bootstrap && bootstrap.record.progress == Progress::Started;
    if let Some(bootstrap) = seen.bootstrap.clone().filter(made_here) {
        actions.push(Action::Complete(Bootstrap { record: bootstrap.record.completed(), ..bootstrap }));
    }
    if seen.prune_due && told.is_none_or(|set| !set.pruned) {
        let set = ManifestSet { objects: seen.wanted.len(), digest: seen.digest.clone(), pruned: true };
        actions.push(Action::Prune { references: references(), set });
    }
    Plan::from_actions(actions)
}

impl Wanted {
    fn is_to_be_tried(&self) -> bool {
        match &self.told {
            Some(told) if told.digest == self.digest && told.manifest == self.origin() => !told.state.is_final() && self.due,
            _ => true,
        }
    }

    /// Whether the cluster is not whole without it.
    fn is_missed(&self) -> bool {
        self.manifest.origin == Origin::Corten && self.told.as_ref().is_none_or(|told| !told.state.is_final())
    }

    /// As users read it.
    pub fn origin(&self) -> &str {
        match &self.manifest.origin {
            Origin::Corten => "corten",
            Origin::User(name) => name,
        }
    }
}

pub fn digest(manifest: &Manifest) -> String {
    hashed(|hasher| manifest.object.to_string().hash(hasher))
}

pub fn digest_of_all(wanted: &[Wanted]) -> String {
    hashed(|hasher| wanted.iter().for_each(|wanted| (&wanted.id, &wanted.digest).hash(hasher)))
}

/// Compared within one agent only.
fn hashed(what: impl FnOnce(&mut DefaultHasher)) -> String {
    let mut hasher = DefaultHasher::new();
    what(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests;
