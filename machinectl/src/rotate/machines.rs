//! The machines of a cluster: which there are, how far each is, and whether it has followed.

use std::time::{Duration, Instant};

use api::v1::{ApplyRequest, GetConfigRequest, JoinedMachine, ListMachinesRequest, ListResourcesRequest, MachineRole};
use controlplane::pki;
use machine::config::{HostPort, yaml};
use serde::Deserialize;
use serde_json::Value;

use super::safe::Safe;
use super::succession::Standing;
use super::{Wish, documents};
use crate::cli::World;
use crate::connection::{Answers, Connection, node};
use crate::failure::{Failure, Kind};
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::QUICK;

/// Between two looks at machines that have to follow.
const AGAIN: Duration = Duration::from_millis(500);

/// All machines that are meant, and the way to them.
#[derive(Debug)]
pub struct Fleet<'a> {
    connection: Connection,
    members: Vec<JoinedMachine>,
    wish: &'a Wish,
}

/// A machine as it was seen.
#[derive(Debug, Clone)]
pub struct Machine {
    pub name: String,
    pub node: HostPort,
    pub control_plane: bool,
    pub document: Value,
    pub standing: Standing,
    pub authority: Status,
}

/// What a machine says of the authority (resources of kind `authorities`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub accepts: Vec<String>,
    pub fingerprints: Vec<String>,
    pub waits_for: Vec<String>,
    cluster_waits_for: Vec<String>,
}

impl Machine {
    pub fn role(&self) -> &'static str {
        if self.control_plane { "controlplane" } else { "worker" }
    }
}

impl<'a> Fleet<'a> {
    /// The cluster's own list of its machines, but for those that were revoked.
    pub async fn of(world: &World, wish: &'a Wish) -> Result<Fleet<'a>, Failure> {
        let ask = async |session: Session| session.ask(session.cluster().list_machines(ListMachinesRequest {})).await;
        let members = world.connection.any().await?.one(QUICK, ask).await?.machines;
        let unknown = wish.without.iter().find(|name| !members.iter().any(|member| member.node == **name));
        if let Some(name) = unknown {
            return Err(
                Failure::usage("--without", format!("{name:?} is no machine of the cluster")).remedy("see machinectl machines list")
            );
        }
        let members: Vec<_> = members.into_iter().filter(|member| !member.revoked && !wish.without.contains(&member.node)).collect();
        if !members.iter().any(|member| member.role() == MachineRole::ControlPlane) {
            return Err(Failure::new("", "the cluster names no control plane").remedy("see machinectl machines list"));
        }
        // Control planes pass calls on to machines that the user cannot reach.
        let endpoints =
            if world.connection.endpoints.is_empty() { world.connection.context_endpoints()? } else { world.connection.endpoints.clone() };
        let nodes = members.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        Ok(Fleet { connection: Connection { endpoints, ..world.connection.among(nodes) }, members, wish })
    }

    /// How each machine is.
    pub async fn look(&self, safe: &Safe) -> Result<Vec<Machine>, Failure> {
        let looked = self.connection.each(QUICK, async |session| self.look_at(&session, safe).await).await?;
        let Answers { done, failed } = looked;
        let remedy = "bring it back; one that is gone for good is left out with machinectl machines revoke NAME, or with --without NAME";
        Answers::<()> { done: Vec::new(), failed }.outcome().map_err(|failure| failure.remedy(remedy))?;
        Ok(done.into_iter().map(|(_, machine)| machine).collect())
    }

    async fn look_at(&self, session: &Session, safe: &Safe) -> Result<Machine, Failure> {
        let member = self.members.iter().find(|member| address(member).as_ref() == Ok(&session.node));
        let member = member.ok_or_else(|| Failure::new(&session.node, "it is no machine of the cluster"))?;
        let document = session.ask(session.config().get(GetConfigRequest { generation: None })).await?.document;
        let document = yaml::read_one(document, &session.node.to_string())?.value();
        let (new, olds) = safe.fingerprints();
        let config = fingerprints(&document, safe);
        let standing = Standing::of(&config, new.as_ref(), &olds).ok_or_else(|| {
            let problem = format!("its authority {} is not in {}", self.wish.authority, self.wish.secrets.display());
            Failure::new(format!("{} ({})", member.node, session.node), problem).remedy("use the cluster's secrets in their last version")
        })?;
        Ok(Machine {
            name: member.node.clone(),
            node: session.node.clone(),
            control_plane: member.role() == MachineRole::ControlPlane,
            authority: status(session, self.wish.authority.name()).await?,
            document,
            standing,
        })
    }

    /// Gives a machine another config.
    pub async fn apply(&self, machine: &Machine, document: String, safe: &Safe) -> Result<Machine, Failure> {
        let request = ApplyRequest { document: document.into_bytes(), dry_run: false, revert_after: None };
        let change = async |session: Session| {
            session.ask(session.config().apply(request.clone())).await?;
            self.look_at(&session, safe).await
        };
        self.only(machine).one(QUICK, change).await
    }

    fn only(&self, machine: &Machine) -> Connection {
        self.connection.among(vec![machine.node.clone()])
    }

    /// Waits until everything on these machines does as their configs say.
    pub async fn followed(&self, machines: &[Machine], safe: &Safe, progress: &Progress) -> Result<(), Failure> {
        let wanted: Vec<(&Machine, Vec<String>)> =
            machines.iter().map(|machine| (machine, fingerprints(&machine.document, safe))).collect();
        let behind = async || {
            let mut behind = Vec::new();
            for (machine, wanted) in &wanted {
                match self.status(machine).await {
                    Ok(status) if status.fingerprints.is_empty() => {
                        return Err(Failure::new(&machine.node, "its release tells nothing of its authorities").remedy("upgrade it first"));
                    }
                    Ok(status) if status.fingerprints != *wanted => behind.push((machine, "its config to be in force".to_owned())),
                    Ok(status) if !status.waits_for.is_empty() => behind.push((machine, status.waits_for.join(", "))),
                    Ok(_) => {}
                    Err(failure) => behind.push((machine, failure.to_string())),
                }
            }
            Ok(behind.into_iter().map(|(machine, why)| format!("{} waits for: {why}", machine.name)).collect())
        };
        self.until_nothing(behind, progress).await
    }

    /// Waits until the cluster tells its pods what the machines accept.
    pub async fn cluster_followed(&self, machines: &[Machine], progress: &Progress) -> Result<(), Failure> {
        let told = async || {
            let mut behind: Vec<String> = Vec::new();
            for machine in machines.iter().filter(|machine| machine.control_plane) {
                match self.status(machine).await {
                    Ok(status) => behind.extend(status.cluster_waits_for.iter().map(|what| format!("the cluster waits for: {what}"))),
                    Err(failure) => behind.push(failure.to_string()),
                }
            }
            behind.sort();
            behind.dedup();
            Ok(behind)
        };
        self.until_nothing(told, progress).await
    }

    async fn until_nothing(&self, look: impl AsyncFn() -> Result<Vec<String>, Failure>, progress: &Progress) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let behind = look().await?;
            let Some(first) = behind.first() else { return Ok(()) };
            progress.wait_for(first);
            if started.elapsed() >= self.wish.wait {
                let remedy =
                    "see machinectl get authorities and machinectl get controllers of that machine; the same command goes on from here";
                let failure = Failure { kind: Kind::Deadline, problems: behind, ..Failure::new("", "") };
                return Err(failure.remedy(format!("waited {}; {remedy}", machine::config::Duration(self.wish.wait))));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn status(&self, machine: &Machine) -> Result<Status, Failure> {
        self.only(machine).one(QUICK, async |session| status(&session, self.wish.authority.name()).await).await
    }
}

fn address(member: &JoinedMachine) -> Result<HostPort, Failure> {
    let first = member.addresses.first().map(String::as_str).unwrap_or_default();
    node(first).map_err(|problem| Failure::new(&member.node, format!("address {first:?}: {problem}")))
}

/// Of the authority's certificates in a config.
fn fingerprints(document: &Value, safe: &Safe) -> Vec<String> {
    documents::certificates(document, safe.authority()).filter_map(|pem| pki::fingerprint(pem).ok()).collect()
}

async fn status(session: &Session, authority: &str) -> Result<Status, Failure> {
    let request = ListResourcesRequest { kind: "authorities".to_owned() };
    let objects = session.ask(session.resource().list(request)).await?.objects;
    let own = objects.into_iter().find(|object| object.name == authority).and_then(|object| object.status);
    let value = own.map(|status| Value::Object(api::json::from_struct(status))).unwrap_or_default();
    serde_json::from_value(if value.is_null() { Value::Object(serde_json::Map::new()) } else { value })
        .map_err(|error| Failure::of(&session.node, &error))
}
