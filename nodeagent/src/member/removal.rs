//! Has the cluster forget a member that is gone for good.

use std::time::Duration;

use anyhow::Context;
use controlplane::etcd::quorum::{Quorum, once_left};
use controlplane::etcd::{Member, MemberId};
use tokio::time::Instant;

use super::{Client, agreeing, observe};
use crate::controllers::etcd_members::Seen;
use crate::etcd::members;
use crate::node::Node;
use crate::power::parting::left;
use crate::refusal::Refusal;
use crate::resources::etcd::EtcdMember;

/// How long etcd may refuse to let a member go: it does so until all of those that it can reach have been connected for some seconds.
const WITHIN: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, PartialEq, Eq)]
struct Removal {
    id: MemberId,
    /// What it is called among the resources.
    label: String,
    /// Whom to ask.
    servers: Vec<String>,
    words: String,
}

/// What is or would be done.
pub async fn remove(node: &Node, member: &str, dry_run: bool, force: bool) -> Result<Vec<String>, Refusal> {
    let removal = decide(&observe(node).await?, member, force || dry_run)?;
    if !dry_run {
        let asked = forget(node, &removal.servers, removal.id).await;
        asked.map_err(Refusal::etcd)?;
        // Whoever asked for it looks next; the controller of the members would find out up to ten seconds later.
        node.store.remove::<EtcdMember>(&removal.label);
        node.events.emit("service/etcd", "Removed", format!("etcd forgets member {} ({member})", removal.id));
    }
    Ok(vec![removal.words])
}

fn decide(seen: &Seen, named: &str, force: bool) -> Result<Removal, Refusal> {
    let cluster = agreeing(seen)?;
    let is = |member: &&Member| member.name == named || member.id.to_string() == named;
    let Some(member) = cluster.members.iter().find(is) else {
        let known: Vec<String> = cluster.members.iter().map(|member| format!("{} ({})", member.label(), member.id)).collect();
        return Err(Refusal::not_found(format!("member {named:?} of etcd"), format!("the members are {}", known.join(", "))));
    };
    if seen.own_id() == Some(member.id) {
        let remedy = "to take this machine out, reset it: machinectl reset --wipe etcd; or ask another control plane to remove it";
        return Err(Refusal::state("OWN_MEMBER", format!("{named} is this machine's own member"), remedy));
    }
    let quorum = once_left(member.id, &seen.voters(cluster));
    let words = format!("have etcd forget member {} ({}){}", member.label(), member.id, left(quorum));
    if let (Quorum::Lost { .. }, false) = (quorum, force) {
        let remedy = "bring the others back first (machinectl etcd members), or accept it with --force";
        return Err(Refusal::state("ETCD_QUORUM", words, remedy));
    }
    Ok(Removal { id: member.id, label: member.label(), servers: seen.servers(cluster, member.id), words })
}

/// Asks one after the other until one does, and again while etcd refuses.
pub async fn forget(node: &Node, servers: &[String], id: MemberId) -> anyhow::Result<()> {
    let until = Instant::now() + WITHIN;
    loop {
        match ask(node, servers, id).await {
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => tokio::time::sleep(AGAIN).await,
            Ok(()) => return Ok(()),
        }
    }
}

async fn ask(node: &Node, servers: &[String], id: MemberId) -> anyhow::Result<()> {
    let client = Client::new(node).context("asking etcd")?;
    let mut answer = Err(anyhow::anyhow!("no member has told where it can be reached"));
    for server in servers {
        answer = members::remove(client.of(server), id).await;
        if answer.is_ok() {
            break;
        }
    }
    answer
}
