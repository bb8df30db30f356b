//! After etcd's quorum is lost for good: one machine goes on alone with what it has, and the others give up theirs and join it.

use super::{Client, confirmed, control_plane, observe, ready_for_repair};
use crate::controllers::etcd_members::{Found, Seen};
use crate::etcd::members;
use crate::etcd::wal;
use crate::node::Node;
use crate::power::hostname;
use crate::refusal::Refusal;
use crate::resources::etcd_repair::{self, Repair};

/// What is or would be done, in somebody's name.
pub async fn recover(node: &Node, confirm: &str, dry_run: bool, by: &str) -> Result<Vec<String>, Refusal> {
    let seen = observe(node).await?;
    ready_for_repair(node)?;
    refuse_recovery(&seen)?;
    let directory = node.root.etcd_data().join("member/wal");
    let log =
        tokio::task::spawn_blocking(move || wal::read(&directory)).await.map_err(anyhow::Error::from)?.map_err(anyhow::Error::from)?;
    let plan = vec![
        format!("stop etcd, and have all of its log count: {} entries, the last of term {}", log.last.index, log.last.term),
        format!("start it as a cluster with {} as its only member: the others are forgotten", hostname(node)),
    ];
    if !dry_run {
        confirmed(node, confirm)?;
        etcd_repair::begin(node, Repair::Recover, by)?;
        node.events.emit("service/etcd", "Recovering", format!("as a cluster of this machine alone, asked by {by}"));
    }
    Ok(plan)
}

fn refuse_recovery(seen: &Seen) -> Result<(), Refusal> {
    let refuse = |reason, problem: String, remedy| Err(Refusal::state(reason, problem, remedy));
    if let Some(cluster) = seen.cluster() {
        let problem = format!("etcd has its quorum: {} answers for {} members", cluster.server, cluster.members.len());
        return refuse("HAS_QUORUM", problem, "nothing is to be recovered; dead members are removed with machinectl etcd remove");
    }
    if let Found::Several(_) = seen.found {
        return refuse("HAS_QUORUM", "other control planes have a cluster already".to_owned(), "join it: machinectl etcd rejoin");
    }
    match &seen.record {
        None => refuse("NO_MEMBER", "this machine was never a member of etcd".to_owned(), "recover through one that was"),
        Some(record) if record.is_joining() || seen.own.as_ref().is_some_and(|own| own.learner) => {
            let problem = "this machine's member never had a vote: it may lack what the others had agreed on".to_owned();
            refuse("LEARNER", problem, "recover through one that had")
        }
        Some(_) => Ok(()),
    }
}

/// What is or would be done, in somebody's name.
pub async fn rejoin(node: &Node, confirm: &str, dry_run: bool, force: bool, by: &str) -> Result<Vec<String>, Refusal> {
    control_plane(node)?;
    ready_for_repair(node)?;
    if !force {
        refuse_rejoin(node).await?;
    }
    let plan = vec![
        "stop etcd, the API server, the controller manager and the scheduler".to_owned(),
        "wipe this machine's copy of etcd's data".to_owned(),
        "join the cluster that another control plane has, as a new member".to_owned(),
    ];
    if !dry_run {
        confirmed(node, confirm)?;
        etcd_repair::begin(node, Repair::Rejoin, by)?;
        node.events.emit("service/etcd", "Rejoining", format!("as a new member, asked by {by}"));
    }
    Ok(plan)
}

/// The data is given up only where it counts for nothing, and there is other data to be had.
async fn refuse_rejoin(node: &Node) -> Result<(), Refusal> {
    let client = Client::new(node)?;
    if let Ok(own) = members::list(client.own()).await {
        let problem = format!("this machine's member takes part in a cluster of {} members that has its quorum", own.members.len());
        let remedy = "to make a new member of it: machinectl reset --wipe etcd; if another cluster is to be joined instead, use --force";
        return Err(Refusal::state("HAS_QUORUM", problem, remedy));
    }
    match crate::controllers::etcd_members::elsewhere(node).await {
        Some(_) => Ok(()),
        None => {
            let problem = "no other control plane has an etcd that answers: there is nothing to join";
            Err(Refusal::state("NOTHING_TO_JOIN", problem, "recover or restore one first: machinectl etcd recover; or use --force"))
        }
    }
}
