//! What this machine does next to become, or to stay, a member of etcd.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use controlplane::bootstrap::{self, Record};
use controlplane::etcd::{Entry, Joiner, MemberId, enter, peer_url};

use crate::controllers::machine::Machine;
use crate::etcd::members::{Cluster, Health};
use crate::plan::{Missing, Plan};
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::etcd_repair::Repair;

#[derive(Debug, Clone)]
pub struct Seen {
    pub machine: Result<Machine, Vec<Missing>>,
    pub volume_open: bool,
    /// The agent's certificate as etcd's client is there.
    pub certificate: bool,
    /// The machine's own config brings the authorities' keys: the cluster can be made through it.
    pub founder: bool,
    pub record: Option<Record>,
    pub data: Data,
    /// This machine's etcd, where it answers.
    pub own: Option<Health>,
    pub found: Found,
    /// How the members are that were found, by their identities.
    pub health: BTreeMap<MemberId, Result<Health, String>>,
    /// What the board says.
    pub told: BTreeMap<String, EtcdMember>,
    /// What somebody has asked to be done with the member.
    pub repair: Option<Repair>,
    /// Why etcd gave this machine no vote, while it is too early to ask again.
    pub not_yet: Option<String>,
}

/// What lies in etcd's data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    Nothing,
    /// etcd began, but it does not know its cluster yet: it looks at the members that it is started with.
    Begun,
    /// etcd's log: from now on it knows its cluster by itself.
    Kept,
}

/// What the members say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The config names no other control plane, and this machine's own etcd does not answer.
    NobodyToAsk,
    /// Why each of those that were asked does not tell.
    Silence(Vec<String>),
    Cluster(Cluster),
    /// They do not speak of the same cluster.
    Several(Vec<SocketAddr>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Publish(BTreeMap<String, EtcdMember>),
    /// Ask `server`, which is etcd's.
    Change {
        server: String,
        change: Change,
    },
    /// Write to STATE.
    Record(Record),
}

/// A change of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A learner with this peer URL.
    Add(String),
    /// The member is reached at this peer URL now.
    Move(MemberId, String),
    Remove(MemberId),
    Promote(MemberId),
}

enum Next {
    Settled,
    Wait(String),
    Act(Action),
}

impl Next {
    fn change(cluster: &Cluster, change: Change) -> Next {
        Next::Act(Action::Change { server: cluster.server.clone(), change })
    }
}

impl Seen {
    /// Whether the machine is neither outside nor a full member.
    pub fn on_the_way(&self) -> bool {
        match &self.record {
            Some(record) => record.is_joining(),
            None => matches!(self.found, Found::Cluster(_)),
        }
    }
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let machine = match &seen.machine {
        Ok(machine) if machine.is_control_plane() => machine,
        Ok(_) => return Plan::Settled,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    let table = table(seen);
    let mut actions: Vec<Action> = Vec::new();
    if table != seen.told {
        actions.push(Action::Publish(table));
    }
    match next(machine, seen) {
        Next::Act(action) => actions.push(action),
        Next::Wait(noun) if actions.is_empty() => return Plan::Waiting(vec![Missing::new(noun)]),
        Next::Wait(_) | Next::Settled => {}
    }
    Plan::from_actions(actions)
}

fn next(machine: &Machine, seen: &Seen) -> Next {
    let wait = |noun: &str| Next::Wait(noun.to_owned());
    if !seen.volume_open {
        return wait("volume etcd");
    }
    if !seen.certificate {
        return wait("certificate etcd-health-client");
    }
    if let Some(repair) = &seen.repair {
        return wait(repair.words());
    }
    if let bootstrap::Plan::Refused(refusal) = bootstrap::plan(&bootstrap_seen(machine, seen)) {
        return Next::Wait(format!("somebody to decide: {refusal}"));
    }
    match (&seen.record, seen.data) {
        (None, _) => outside(machine, seen),
        (Some(record), Data::Nothing | Data::Begun) if record.is_joining() => entering(machine, seen, record),
        (Some(record), Data::Kept) if record.is_joining() => learning(seen, record),
        (Some(record), _) => inside(machine, seen, record),
    }
}

fn bootstrap_seen(machine: &Machine, seen: &Seen) -> bootstrap::Seen {
    bootstrap::Seen {
        requested: false,
        record: seen.record.clone(),
        etcd_data_empty: seen.data == Data::Nothing,
        cluster: machine.config.cluster.name.clone(),
    }
}

/// The cluster that the others run; else what is waited for.
fn cluster<'a>(seen: &'a Seen, waited_for: &str) -> Result<&'a Cluster, Next> {
    match &seen.found {
        Found::Cluster(cluster) => Ok(cluster),
        Found::NobodyToAsk => Err(Next::Wait(waited_for.to_owned())),
        Found::Silence(troubles) => Err(Next::Wait(format!("{waited_for} ({})", troubles.join("; ")))),
        Found::Several(servers) => {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            Err(Next::Wait(format!("somebody to decide: the etcd servers at {} are of different clusters", servers.join(", "))))
        }
    }
}

const OTHERS: &str = "etcd of another control plane";

/// No record of a cluster: it joins the one that is there.
fn outside(machine: &Machine, seen: &Seen) -> Next {
    let waited_for = if seen.founder { "bootstrap of the cluster, or etcd of another control plane" } else { OTHERS };
    match cluster(seen, waited_for) {
        Ok(cluster) => enter_into(machine, cluster),
        Err(next) => next,
    }
}

/// On record as joining, but etcd does not know its cluster yet. The members may have changed since.
fn entering(machine: &Machine, seen: &Seen, record: &Record) -> Next {
    let cluster = match cluster(seen, OTHERS) {
        Ok(cluster) => cluster,
        Err(next) => return next,
    };
    match enter_into(machine, cluster) {
        Next::Act(Action::Record(new)) if new == *record => Next::Wait("etcd to start".to_owned()),
        other => other,
    }
}

fn enter_into(machine: &Machine, cluster: &Cluster) -> Next {
    let peer_url = match peer_url(&machine.facts) {
        Ok(peer_url) => peer_url,
        Err(error) => return Next::Wait(error.to_string()),
    };
    let name = &machine.facts.node_name;
    match enter(Joiner { name, peer_url: &peer_url }, &cluster.members) {
        Entry::Add => Next::change(cluster, Change::Add(peer_url)),
        Entry::Remove(id) => Next::change(cluster, Change::Remove(id)),
        Entry::Start { id, members } => Next::Act(Action::Record(Record::joining(&machine.config.cluster.name, name, id, members))),
        Entry::Blocked(obstacle) => Next::Wait(obstacle.to_string()),
    }
}

/// It gets the data, until it has a vote.
fn learning(seen: &Seen, record: &Record) -> Next {
    let cluster = match cluster(seen, OTHERS) {
        Ok(cluster) => cluster,
        Err(next) => return next,
    };
    let own = cluster.members.iter().find(|member| Some(member.id) == record.member_id);
    match (own, &seen.own) {
        (None, _) => removed(record),
        (Some(member), _) if !member.learner => Next::Act(Action::Record(record.clone().completed())),
        (Some(_), None) => Next::Wait("etcd to answer".to_owned()),
        (Some(_), Some(_)) if seen.not_yet.is_some() => {
            Next::Wait(format!("a vote in etcd: {}", seen.not_yet.as_deref().unwrap_or_default()))
        }
        (Some(member), Some(_)) => Next::change(cluster, Change::Promote(member.id)),
    }
}

/// A member; it learns its identity, and that it is none any more.
fn inside(machine: &Machine, seen: &Seen, record: &Record) -> Next {
    match (record.member_id, &seen.own) {
        (None, Some(own)) => Next::Act(Action::Record(Record { member_id: Some(MemberId(own.member)), ..record.clone() })),
        _ if is_removed(seen, record) => removed(record),
        _ => at_its_address(machine, seen, record),
    }
}

/// The others reach it where the machine is now.
fn at_its_address(machine: &Machine, seen: &Seen, record: &Record) -> Next {
    let (Found::Cluster(cluster), Ok(peer_url)) = (&seen.found, peer_url(&machine.facts)) else { return Next::Settled };
    let own = cluster.members.iter().find(|member| Some(member.id) == record.member_id);
    match own {
        Some(own) if !own.peer_urls.contains(&peer_url) => Next::change(cluster, Change::Move(own.id, peer_url)),
        _ => Next::Settled,
    }
}

/// The others have removed it.
pub fn is_removed(seen: &Seen, record: &Record) -> bool {
    let (Some(id), Found::Cluster(cluster)) = (record.member_id, &seen.found) else { return false };
    seen.data == Data::Kept && cluster.members.iter().all(|member| member.id != id)
}

fn removed(record: &Record) -> Next {
    let id = record.member_id.map(|id| id.to_string()).unwrap_or_default();
    Next::Wait(format!(
        "somebody to decide: the others removed this machine's member {id} from etcd, and its data counts for nothing: \
         machinectl etcd rejoin has it join anew"
    ))
}

/// The members as the board is to show them. What cannot be asked stays as it was told last, but for its health.
pub fn table(seen: &Seen) -> BTreeMap<String, EtcdMember> {
    let own = seen.record.as_ref().and_then(|record| record.member_id);
    let Found::Cluster(cluster) = &seen.found else {
        let message = match &seen.found {
            Found::Silence(troubles) => troubles.join("; "),
            _ => "this machine's etcd does not answer".to_owned(),
        };
        let unknown = |member: &EtcdMember| EtcdMember { healthy: false, message: message.clone(), ..member.clone() };
        return seen.told.iter().map(|(name, member)| (name.clone(), unknown(member))).collect();
    };
    let row = |member: &controlplane::etcd::Member| {
        let asked = seen.health.get(&member.id);
        let health = asked.and_then(|health| health.as_ref().ok());
        let message = match asked {
            None => "it has not started yet".to_owned(),
            Some(Err(trouble)) => trouble.clone(),
            Some(Ok(health)) if !health.errors.is_empty() => health.errors.join("; "),
            Some(Ok(health)) if health.leader == 0 => "it knows no leader".to_owned(),
            Some(Ok(_)) => String::new(),
        };
        let role = match health {
            _ if member.learner => EtcdRole::Learner,
            Some(health) if health.leader == member.id.0 => EtcdRole::Leader,
            _ => EtcdRole::Voter,
        };
        EtcdMember {
            id: member.id,
            role,
            local: own == Some(member.id),
            healthy: message.is_empty(),
            message,
            version: health.map(|health| health.version.clone()).unwrap_or_default(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
        }
    };
    let mut rows: BTreeMap<String, EtcdMember> = cluster.members.iter().map(|member| (member.label(), row(member))).collect();
    if let Some(record) = seen.record.as_ref().filter(|record| is_removed(seen, record))
        && let Some(id) = record.member_id
    {
        let message = "the others removed it".to_owned();
        let (peer_urls, client_urls) = Default::default();
        let version = String::new();
        let row = EtcdMember { id, role: EtcdRole::Removed, local: true, healthy: false, message, version, peer_urls, client_urls };
        // Another machine may have its name by now.
        let name = if rows.contains_key(&record.member) { id.to_string() } else { record.member.clone() };
        rows.insert(name, row);
    }
    rows
}
