//! The machines that are meant: what each is and would do, and in which order they are taken.

use api::v1::{GetVersionRequest, GetVersionResponse, ListResourcesRequest};
use machine::config::{HostPort, Role};
use machine::version::Minor;

use super::change::{Change, Planned, Wish};
use super::quorum::{Peer, Quorum};
use super::skew;
use super::standing::Standing;
use crate::cli::World;
use crate::connection::Answers;
use crate::failure::Failure;
use crate::session::Session;
use crate::verbs::SLOW;

/// One of the machines.
#[derive(Debug)]
pub struct Member {
    pub session: Session,
    pub version: GetVersionResponse,
    role: Role,
    /// Name of its Node; none where the cluster does not know it, or there is no cluster.
    pub kubernetes_node: Option<String>,
    /// Machine APIs of control planes that its config names.
    control_planes: Vec<HostPort>,
    pub change: Change,
    pub planned: Planned,
}

#[derive(Debug)]
pub struct Fleet {
    /// In the order in which the user named them.
    members: Vec<Member>,
    /// Machine APIs of the control planes that are known; one machine may have several.
    control_planes: Vec<HostPort>,
    peers: Vec<Peer>,
}

impl Member {
    pub fn node(&self) -> &HostPort {
        &self.session.node
    }

    pub fn is_control_plane(&self) -> bool {
        self.role == Role::ControlPlane
    }

    fn has_etcd(&self) -> bool {
        self.role == Role::ControlPlane && !self.version.kubernetes.is_empty()
    }

    /// `192.0.2.1:50000 (cp-1, control plane): 0.1.0 -> 0.2.0`
    pub fn heading(&self) -> String {
        let role = match self.role {
            _ if self.version.kubernetes.is_empty() => "without Kubernetes",
            Role::ControlPlane => "control plane",
            Role::Worker => "worker",
        };
        format!("{} ({}, {role}): {}", self.node(), self.version.hostname, self.change.versions(&self.version.version))
    }
}

impl Fleet {
    /// Asks every machine what it is, and what it would do. One that refuses ends it before anything has begun on any of them.
    pub async fn look(world: &World, wish: &Wish) -> Result<Fleet, Failure> {
        let Answers { done, failed } = world.connection.each_named(SLOW, async |session| look(session, wish).await).await?;
        Answers::<()> { done: Vec::new(), failed }.outcome()?;
        let members: Vec<Member> = done.into_iter().map(|(_, member)| member).collect();
        let mut fleet = Fleet { members, control_planes: Vec::new(), peers: Vec::new() };
        if fleet.members.iter().any(|member| !member.version.kubernetes.is_empty() && !member.planned.settled) {
            fleet.control_planes = fleet.known_control_planes(world)?;
            fleet.peers = fleet.ask_peers(world).await?;
        }
        Ok(fleet)
    }

    fn known_control_planes(&self, world: &World) -> Result<Vec<HostPort>, Failure> {
        let mut known = world.connection.context_endpoints()?;
        for member in &self.members {
            known.extend(member.has_etcd().then(|| member.node().clone()));
            known.extend(member.control_planes.iter().cloned());
        }
        let mut distinct = Vec::new();
        for node in known {
            if !distinct.contains(&node) {
                distinct.push(node);
            }
        }
        Ok(distinct)
    }

    async fn ask_peers(&self, world: &World) -> Result<Vec<Peer>, Failure> {
        Peer::ask(&world.connection.among(self.control_planes.clone())).await
    }

    /// Those on which there is nothing to do.
    pub fn settled(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.planned.settled)
    }

    /// The others: control planes first, each group in the order in which the user named them. New kubelets may not be newer than the API
    /// servers, and what would break a control plane shows before the workers follow.
    pub fn in_order(&self) -> impl Iterator<Item = &Member> {
        let with = |role: Role| self.members.iter().filter(move |member| !member.planned.settled && member.role == role);
        with(Role::ControlPlane).chain(with(Role::Worker))
    }

    /// What becomes of etcd's quorum while this machine is away; none if it has no etcd.
    pub fn quorum(&self, member: &Member) -> Option<Quorum> {
        member.has_etcd().then(|| Quorum::without(&member.version.boot_id, &self.peers))
    }

    /// The same, by what the control planes say now: those before this one may still be on their way back.
    pub async fn quorum_now(&self, world: &World, member: &Member) -> Result<Option<Quorum>, Failure> {
        if !member.has_etcd() {
            return Ok(None);
        }
        Ok(Some(Quorum::without(&member.version.boot_id, &self.ask_peers(world).await?)))
    }

    /// Refuses what would have parts of Kubernetes run together that may not.
    pub fn check_skew(&self) -> Result<(), Failure> {
        // Those of this run come before all workers.
        let upgraded = |peer: &Peer| self.in_order().find(|member| peer.boot_id.as_ref() == Some(&member.version.boot_id));
        let versions = |after: bool| {
            self.peers.iter().filter_map(move |peer| {
                let new = upgraded(peer).and_then(|member| member.planned.kubernetes).filter(|_| after);
                new.or(peer.kubernetes)
            })
        };
        for member in self.in_order() {
            let Some(new) = member.planned.kubernetes else { continue };
            let problem = match member.role {
                Role::Worker => skew::kubelet(new, versions(true)),
                Role::ControlPlane => skew::api_server(new, versions(false)).or_else(|| skew::older_kubelets(new, self.workers_kubelets())),
            };
            if let Some((problem, remedy)) = problem {
                return Err(Failure::new(member.node(), problem).remedy(remedy));
            }
        }
        Ok(())
    }

    /// As they run now: control planes come first. Of workers that nobody named, nothing is known.
    fn workers_kubelets(&self) -> impl Iterator<Item = (String, Minor)> {
        let workers = self.members.iter().filter(|member| member.role == Role::Worker);
        workers.filter_map(|worker| Some((worker.node().to_string(), worker.version.kubernetes.parse().ok()?)))
    }

    /// Machine APIs to ask for a kubeconfig, best first.
    pub fn kubeconfig_sources(&self, world: &World, member: &Member) -> Result<Vec<HostPort>, Failure> {
        let mut sources = if self.control_planes.is_empty() { self.known_control_planes(world)? } else { self.control_planes.clone() };
        sources.sort_by_key(|source| source != member.node());
        Ok(sources)
    }
}

async fn look(session: Session, wish: &Wish) -> Result<Member, Failure> {
    let version = session.ask(session.machine().get_version(GetVersionRequest {})).await?;
    let Standing { role, control_planes } = Standing::ask(&session, &version).await?;
    let kubernetes_node = if version.kubernetes.is_empty() { None } else { kubernetes_node(&session).await? };
    let change = wish.of(&session, &version)?;
    let planned = change.plan(&session, &version).await?;
    Ok(Member { session, version, role, kubernetes_node, control_planes, change, planned })
}

async fn kubernetes_node(session: &Session) -> Result<Option<String>, Failure> {
    let request = ListResourcesRequest { kind: "nodes".to_owned() };
    let nodes = session.ask(session.resource().list(request)).await?.objects;
    Ok(nodes.into_iter().next().map(|node| node.name))
}
