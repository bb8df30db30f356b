//! What etcd's other members have to know before this machine goes down: whether they can do without it, and that it leaves for good when its
//! data is wiped.

use anyhow::Context;
use controlplane::etcd::MemberId;
use controlplane::etcd::quorum::{Quorum, majority, once_left, while_away};
use machine::disk::Volume;

use crate::controllers::etcd_members::{self, Found, Seen};
use crate::controllers::pki::Keyring;
use crate::member::removal::forget;
use crate::node::Node;
use crate::refusal::Refusal;

/// How this machine parts with etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parting {
    /// It has no member, or none that anybody counts on.
    NoMember,
    /// It comes back.
    Away(Quorum),
    /// Its member is taken out, through one of these servers.
    Leave { id: MemberId, servers: Vec<String>, quorum: Quorum },
    /// It cannot be told what would become of etcd.
    Unknown { why: String, for_good: bool },
}

impl Parting {
    pub async fn observe(node: &Node, wipe: &[Volume]) -> Parting {
        let seen = etcd_members::observe(node, &mut Keyring::default(), None).await;
        decide(&seen, wipe.contains(&Volume::Etcd))
    }

    /// What happens to etcd, in words; empty where it is not concerned.
    pub fn words(&self) -> String {
        match self {
            Parting::NoMember => String::new(),
            Parting::Away(quorum) => away(*quorum),
            Parting::Leave { quorum: Quorum::Alone, .. } => "etcd: this is its only member: the cluster's data is gone".to_owned(),
            Parting::Leave { id, quorum, .. } => format!("leave etcd: the other members forget member {id}{}", left(*quorum)),
            Parting::Unknown { why, for_good: false } => format!("etcd: what becomes of its quorum cannot be told: {why}"),
            Parting::Unknown { why, for_good: true } => format!("etcd: the other members cannot be told that this one leaves: {why}"),
        }
    }

    /// Its words, if it is harmless or meant.
    pub fn accepted(&self, force: bool) -> Result<String, Refusal> {
        let remedy = match self {
            _ if force => return Ok(self.words()),
            Parting::Away(Quorum::Lost { .. }) | Parting::Leave { quorum: Quorum::Lost { .. }, .. } => {
                "repair the others first (machinectl get etcdmembers), or accept with --force that the Kubernetes API is away meanwhile"
            }
            Parting::Unknown { for_good: false, .. } => {
                "try again in a moment (machinectl get controllers etcdmembers), or accept it with --force"
            }
            Parting::Unknown { for_good: true, .. } => {
                "repair etcd first, or use --force and then remove the member through another control plane"
            }
            Parting::NoMember | Parting::Away(_) | Parting::Leave { .. } => return Ok(self.words()),
        };
        Err(Refusal::state("ETCD_QUORUM", self.words(), remedy))
    }

    /// Has the others forget this machine's member, where it leaves.
    pub async fn leave(&self, node: &Node) -> anyhow::Result<()> {
        let Parting::Leave { id, servers, quorum } = self else { return Ok(()) };
        if *quorum == Quorum::Alone {
            return Ok(());
        }
        forget(node, servers, *id).await.context("leaving etcd")?;
        node.events.emit("service/etcd", "Left", format!("the other members forget member {id}"));
        Ok(())
    }
}

fn decide(seen: &Seen, for_good: bool) -> Parting {
    if seen.record.is_none() || seen.machine.is_err() {
        return Parting::NoMember;
    }
    let unknown = |why: String| Parting::Unknown { why, for_good };
    let cluster = match &seen.found {
        Found::Cluster(cluster) => cluster,
        // It is a cluster of one, whose etcd does not run.
        Found::NobodyToAsk => return Parting::NoMember,
        // It takes no part: nobody misses it while it is away.
        Found::Silence(_) if !for_good && seen.own.as_ref().is_none_or(|own| own.leader == 0) => return Parting::NoMember,
        Found::Silence(troubles) => return unknown(troubles.join("; ")),
        Found::Several(_) => return unknown("the other servers are of different clusters".to_owned()),
    };
    let Some(id) = seen.own_id() else {
        return unknown("this machine's etcd has not told its identity yet".to_owned());
    };
    let Some(own) = cluster.members.iter().find(|member| member.id == id) else { return Parting::NoMember };
    let voters = seen.voters(cluster);
    if !for_good {
        return if own.learner { Parting::NoMember } else { Parting::Away(while_away(id, &voters)) };
    }
    // The others first: it is they who remember, and its own etcd ends when it leaves.
    let servers = seen.servers(cluster, id);
    Parting::Leave { id, servers, quorum: once_left(id, &voters) }
}

pub fn away(quorum: Quorum) -> String {
    match quorum {
        Quorum::NoVote => String::new(),
        Quorum::Alone => "etcd: this is its only member: the Kubernetes API is away until it is back".to_owned(),
        Quorum::Kept { voters, healthy } => format!("etcd keeps its quorum: {healthy} of {voters} members remain"),
        Quorum::Lost { voters, healthy } => {
            format!("etcd loses its quorum: {healthy} of {voters} members remain, {} are needed", majority(voters))
        }
    }
}

pub fn left(quorum: Quorum) -> String {
    match quorum {
        Quorum::NoVote | Quorum::Alone => String::new(),
        Quorum::Kept { voters, healthy } => format!("; {healthy} of the {voters} that remain are healthy"),
        Quorum::Lost { voters, healthy } => {
            format!("; etcd loses its quorum: {healthy} of the {voters} that remain are healthy, {} are needed", majority(voters))
        }
    }
}

#[cfg(test)]
mod tests;
