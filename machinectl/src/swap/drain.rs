//! Takes a Kubernetes node out of service before its machine reboots and puts it back afterwards: no new pods, and those that run and can
//! run elsewhere are evicted, as far as their disruption budgets let them.

mod pods;

use std::time::Duration;

use api::v1::GetKubeconfigRequest;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::backoff::Backoff;
use super::fleet::{Fleet, Member};
use crate::cli::World;
use crate::failure::{Failure, Kind, chain};
use crate::kubernetes;
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::QUICK;
use pods::Resident;

/// Marks a node that machinectl cordoned: one that somebody else cordoned stays so.
const MARK: &str = "corten.dev/cordoned-for";
/// How often the pods are looked at.
const AGAIN: Duration = Duration::from_secs(2);
/// How long letting pods back may take, from when the machine is there again: an API server may still be on its way up.
const LIFT: Duration = Duration::from_secs(3 * 60);
/// How long the certificate is valid that all of this is done with.
const VALID_FOR_SECONDS: i64 = 12 * 60 * 60;

/// A node on which no new pods start.
#[must_use]
pub struct Cordon {
    client: kube::Client,
    name: String,
    /// Not if somebody else did it before.
    ours: bool,
}

/// Keeps new pods from the node and evicts those that run there. If that does not succeed, nothing stays changed.
pub async fn drain(
    world: &World,
    member: &Member,
    name: &str,
    fleet: &Fleet,
    deadline: Duration,
    progress: &Progress,
) -> Result<Cordon, Failure> {
    progress.wait_for(format!("{}: takes node {name} out of service", member.node()));
    let client = client(world, member, fleet).await?;
    let cordon = Cordon::lay(client, name).await.map_err(|failure| failure.remedy("leave its pods alone with --no-drain"))?;
    progress.done(&format!("{}: node {name} takes no new pods", member.node()));
    let evicted = cordon.evict(deadline, progress).await;
    match evicted {
        Ok(count) => {
            progress.done(&format!("{}: {count} pods were evicted from node {name}", member.node()));
            Ok(cordon)
        }
        Err(failure) => match cordon.lift(progress).await {
            Ok(()) => Err(failure),
            Err(second) => Err(Failure { problems: [vec![second.to_string()], failure.problems].concat(), ..failure }),
        },
    }
}

/// By a kubeconfig of the first control plane that gives one.
async fn client(world: &World, member: &Member, fleet: &Fleet) -> Result<kube::Client, Failure> {
    let valid_for = Some(prost_types::Duration { seconds: VALID_FOR_SECONDS, nanos: 0 });
    let mut refusals = Vec::new();
    for source in fleet.kubeconfig_sources(world, member)? {
        let ask = async |session: Session| session.ask(session.cluster().get_kubeconfig(GetKubeconfigRequest { valid_for })).await;
        match world.connection.among(vec![source]).one(QUICK, ask).await {
            Ok(response) => return kubernetes::connect(&response.kubeconfig).await,
            Err(failure) => refusals.push(failure.to_string()),
        }
    }
    let problems = [vec![format!("{}: no control plane gives a kubeconfig to drain its node with", member.node())], refusals].concat();
    Err(Failure { problems, ..Failure::new("", "") }
        .remedy("name a control plane with --endpoints, or leave its pods alone with --no-drain"))
}

impl Cordon {
    async fn lay(client: kube::Client, name: &str) -> Result<Cordon, Failure> {
        let nodes: Api<Node> = Api::all(client.clone());
        let failed = |error: kube::Error| failure(name, &error);
        let node = nodes.get(name).await.map_err(failed)?;
        let marked = node.metadata.annotations.is_some_and(|annotations| annotations.contains_key(MARK));
        let cordoned = node.spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
        let ours = marked || !cordoned;
        if ours {
            let patch = json!({ "metadata": { "annotations": { MARK: "reboot" } }, "spec": { "unschedulable": true } });
            nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map_err(failed)?;
        }
        Ok(Cordon { client, name: name.to_owned(), ours })
    }

    /// Lets pods onto the node again. Tried for a while: what the API server runs on may have come back just now.
    pub async fn lift(self, progress: &Progress) -> Result<(), Failure> {
        let Some(left) = self.left_ref() else { return Ok(()) };
        progress.wait_for(format!("lets pods onto node {} again", self.name));
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = json!({ "metadata": { "annotations": { MARK: null } }, "spec": { "unschedulable": null } });
        let mut backoff = Backoff::new(LIFT);
        loop {
            let Err(error) = nodes.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await else {
                progress.done(&format!("node {} takes pods again", self.name));
                return Ok(());
            };
            if !(passes(&error) && backoff.wait().await) {
                let failure = failure(&self.name, &error);
                return Err(Failure { problems: [failure.problems, vec![left]].concat(), ..Failure::new("", "") });
            }
        }
    }

    /// Says that the node stays as it is, and what to do about it; none if that is not ours to say.
    pub fn left(self) -> Option<String> {
        self.left_ref()
    }

    fn left_ref(&self) -> Option<String> {
        let name = &self.name;
        self.ours.then(|| format!("node {name} is still kept from new pods; let them back with: kubectl uncordon {name}"))
    }

    /// Evicts until none is left that could run elsewhere; how many that were.
    async fn evict(&self, deadline: Duration, progress: &Progress) -> Result<usize, Failure> {
        let mut refusals = Vec::new();
        let mut evicted = std::collections::BTreeSet::new();
        let whole = async {
            loop {
                let residents = self.residents().await?;
                if residents.is_empty() {
                    return Ok(evicted.len());
                }
                refusals.clear();
                for resident in residents {
                    evicted.insert(resident.uid.clone());
                    refusals.extend(self.evict_one(&resident).await?.map(|refusal| format!("{resident}: {refusal}")));
                }
                progress.wait_for(format!("node {}: pods are ending; {}", self.name, refusals.join("; ")));
                tokio::time::sleep(AGAIN).await;
            }
        };
        match tokio::time::timeout(deadline, whole).await {
            Ok(count) => count,
            Err(_) => {
                let problem = format!("node {} was not drained within {}", self.name, machine::config::Duration(deadline));
                let remedy = "its machine goes on as it is; give it more time with --drain, or leave the pods alone with --no-drain";
                let problems = [refusals, vec![problem]].concat();
                Err(Failure { kind: Kind::Deadline, problems, ..Failure::new("", "") }.remedy(remedy))
            }
        }
    }

    async fn residents(&self) -> Result<Vec<Resident>, Failure> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let here = ListParams::default().fields(&format!("spec.nodeName={}", self.name));
        let pods = pods.list(&here).await.map_err(|error| failure(&self.name, &error))?;
        Ok(pods.items.iter().filter_map(Resident::to_evict).collect())
    }

    /// Why it cannot go now, if it cannot.
    async fn evict_one(&self, resident: &Resident) -> Result<Option<String>, Failure> {
        if resident.is_ending {
            return Ok(Some("it is ending".to_owned()));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &resident.namespace);
        match pods.evict(&resident.name, &EvictParams::default()).await {
            Ok(_) => Ok(None),
            // Its disruption budget does not allow it now, or the API server has too much to do.
            Err(kube::Error::Api(status)) if status.code == 429 => Ok(Some(status.message)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(failure(&format!("{}: {resident}", self.name), &error)),
        }
    }
}

fn failure(what: &str, error: &kube::Error) -> Failure {
    let said = match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => chain(other),
    };
    Failure::new(format!("node {what}"), format!("Kubernetes API: {said}"))
}

/// Whether another try may succeed, of somebody who was allowed to do this before: an API server that has just started knows no roles yet, and forbids.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code >= 500 || status.code == 429 || status.code == 403,
        _ => true,
    }
}
