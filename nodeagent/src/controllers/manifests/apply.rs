//! Carries actions out as a short-lived super-user: before the manifests are there, nobody has a role.

use std::time::Duration;

use anyhow::Context;
use controlplane::client::{Applier, Client, Outcome};
use tokio::time::{Instant, timeout};

use super::plan::{Action, Wanted};
use super::{Manifests, PRUNING, inventory, prune};
use crate::controllers::api::super_user;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::bootstrap;
use crate::resources::manifests::{ManifestSet, ManifestState, ManifestStatus};

/// For one object: longer than an admission webhook may take.
const DEADLINE: Duration = Duration::from_secs(35);

pub async fn apply(controller: &mut Manifests, action: Action, node: &Node) -> anyhow::Result<()> {
    let machine = Machine::observe(node).map_err(|missing| anyhow::anyhow!("{missing:?} went missing"))?;
    let own = machine.facts.node_name.as_str();
    match action {
        Action::Record { digest, references } => {
            let client = super_user(&machine.config)?;
            timeout(DEADLINE, inventory::add(&client, own, &references)).await.context("writing down what is applied")??;
            controller.recorded = Some(digest);
        }
        Action::Apply(wanted) => try_all(controller, &super_user(&machine.config)?, wanted, node).await?,
        Action::Tell(set) => node.store.put(ManifestSet::NAME, &set),
        Action::Complete(record) => bootstrap::save(node, &record)?,
        Action::Prune { references, set } => {
            let pruned = prune::prune(&super_user(&machine.config)?, own, &references, node).await?;
            let is_wanted = |id: &str| references.iter().any(|reference| reference.to_string() == id);
            // Of others only what was found now is told.
            for id in node.store.all::<ManifestStatus>().into_keys().filter(|id| !is_wanted(id) && !pruned.told.contains_key(id)) {
                node.store.remove::<ManifestStatus>(&id);
            }
            controller.retries.keep(|id| id == PRUNING || is_wanted(id));
            for (id, status) in &pruned.told {
                tell(node, id, status);
            }
            if pruned.complete {
                controller.retries.forget(PRUNING);
                node.store.put(ManifestSet::NAME, &set);
            } else {
                controller.retries.failed(PRUNING, Instant::now());
            }
        }
    }
    Ok(())
}

/// An error is that of an API server that does not answer.
async fn try_all(controller: &mut Manifests, client: &Client, wanted: Vec<Wanted>, node: &Node) -> anyhow::Result<()> {
    let mut applier = Applier::new(client);
    for wanted in wanted {
        let (state, message) = match timeout(DEADLINE, applier.apply(&wanted.manifest)).await {
            Ok(outcome) => described(outcome?),
            Err(_) => (ManifestState::Refused, format!("no answer within {} s", DEADLINE.as_secs())),
        };
        let before = wanted.told.as_ref().filter(|told| told.digest == wanted.digest);
        if before.is_none() {
            controller.retries.forget(&wanted.id);
        }
        if state.is_final() {
            controller.retries.forget(&wanted.id);
        } else {
            controller.retries.failed(&wanted.id, Instant::now());
        }
        let tries = before.map_or(0, |told| told.tries).saturating_add(1);
        tell(node, &wanted.id, &ManifestStatus { manifest: wanted.origin().to_owned(), state, message, digest: wanted.digest, tries });
    }
    Ok(())
}

/// What does not go as wanted is an event as well, once.
fn tell(node: &Node, id: &str, status: &ManifestStatus) {
    let known = node.store.all::<ManifestStatus>().remove(id);
    let is_new = known.is_none_or(|known| (known.state, &known.message) != (status.state, &status.message));
    if is_new && !status.message.is_empty() {
        node.events.emit("cluster", "Manifest", format!("{id} of manifest {}: {}", status.manifest, status.message));
    }
    node.store.put(id, status);
}

fn described(outcome: Outcome) -> (ManifestState, String) {
    match outcome {
        Outcome::Applied => (ManifestState::Applied, String::new()),
        Outcome::Yielded(fields) => {
            (ManifestState::Yielded, format!("these fields are left to those who wrote them: {}", fields.join(", ")))
        }
        Outcome::Conflict(fields) => {
            let remedy = "take them out of the manifest, or out of what else writes them";
            (ManifestState::Conflict, format!("somebody else wrote these fields: {}; {remedy}", fields.join(", ")))
        }
        Outcome::Refused(why) => (ManifestState::Refused, why),
        Outcome::UnknownKind => (ManifestState::Waiting, "the API server does not know this kind, or not yet".to_owned()),
    }
}
