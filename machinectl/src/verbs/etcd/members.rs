//! `etcd members`, `etcd status`, `etcd remove`.

use api::v1::{EtcdMember, GetEtcdStatusRequest, GetEtcdStatusResponse, ListEtcdMembersRequest, RemoveEtcdMemberRequest};
use clap::Args;
use machine::config::HostPort;
use serde_json::{Value, json};

use crate::cli::World;
use crate::confirm::confirmed;
use crate::failure::Failure;
use crate::output::{Output, Table, write};
use crate::session::Session;
use crate::verbs::{QUICK, SLOW};

/// List the members of etcd and how they are, as each machine sees them
#[derive(Debug, Args)]
pub struct Members {
    #[command(flatten)]
    output: Output,
}

/// Show how each machine's own member is, also where the cluster has no quorum
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    output: Output,
}

/// Have etcd forget a member that is gone for good
#[derive(Debug, Args)]
#[command(after_help = "A machine that still runs leaves by itself when it is reset: machinectl reset.")]
pub struct Remove {
    /// Its name, or its identity in hexadecimal digits
    member: String,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also where etcd loses its quorum by it
    #[arg(long)]
    force: bool,
}

impl Members {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: Session| session.ask(session.etcd().list_members(ListEtcdMembersRequest {})).await;
        let answers = world.connection.each(QUICK, ask).await?;
        let rows: Vec<(&HostPort, &EtcdMember)> =
            answers.done.iter().flat_map(|(node, response)| response.members.iter().map(move |member| (node, member))).collect();
        if !answers.done.is_empty() {
            self.output.print(|wide| table(&rows, wide), || rows.iter().map(|(node, member)| value(node, member)).collect());
        }
        answers.outcome()
    }
}

fn table(rows: &[(&HostPort, &EtcdMember)], wide: bool) -> Table {
    let more: &[&str] = if wide { &["PEERS", "CLIENTS"] } else { &[] };
    let mut table = Table::new(&[&["NODE", "ID", "NAME", "ROLE", "HEALTHY", "VERSION", "MESSAGE"], more].concat());
    for (node, member) in rows {
        let mut row = vec![
            node.to_string(),
            member.id.clone(),
            member.name.clone(),
            member.role.clone(),
            member.healthy.to_string(),
            member.version.clone(),
            member.message.clone(),
        ];
        if wide {
            row.extend([member.peer_urls.join(","), member.client_urls.join(",")]);
        }
        table.row(row);
    }
    table
}

fn value(node: &HostPort, member: &EtcdMember) -> Value {
    json!({
        "node": node.to_string(), "id": member.id, "name": member.name, "role": member.role, "local": member.local,
        "healthy": member.healthy, "message": member.message, "version": member.version,
        "peerURLs": member.peer_urls, "clientURLs": member.client_urls,
    })
}

impl Status {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let answers = world.connection.each(QUICK, async |session| status(&session).await).await?;
        if !answers.done.is_empty() {
            let values = || answers.done.iter().map(|(node, status)| status_value(node, status)).collect();
            self.output.print(|wide| status_table(&answers.done, wide), values);
        }
        answers.outcome()
    }
}

pub async fn status(session: &Session) -> Result<GetEtcdStatusResponse, Failure> {
    session.ask(session.etcd().get_status(GetEtcdStatusRequest {})).await
}

/// What a member is up to, in one word.
fn state(status: &GetEtcdStatusResponse) -> &'static str {
    match status {
        GetEtcdStatusResponse { member_id, .. } if member_id.is_empty() => "none",
        GetEtcdStatusResponse { running: false, .. } => "stopped",
        GetEtcdStatusResponse { quorum: false, learner: false, .. } => "no quorum",
        GetEtcdStatusResponse { learner: true, .. } => "learner",
        GetEtcdStatusResponse { member_id, leader_id, .. } if member_id == leader_id => "leader",
        _ => "voter",
    }
}

pub fn status_table(rows: &[(HostPort, GetEtcdStatusResponse)], wide: bool) -> Table {
    let more: &[&str] = if wide { &["CLUSTER", "REVISION", "COMMITTED", "APPLIED", "STORAGE"] } else { &[] };
    let headings = ["NODE", "ID", "NAME", "STATE", "VERSION", "DATABASE", "USED", "LOG", "MESSAGE"];
    let mut table = Table::new(&[&headings[..], more].concat());
    for (node, status) in rows {
        let message = [status.errors.join("; "), status.waits_for.clone()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        let bytes = |count: u64| if count == 0 { String::new() } else { format!("{:.1} MiB", count as f64 / 1048576.0) };
        let mut row = vec![
            node.to_string(),
            status.member_id.clone(),
            status.name.clone(),
            state(status).to_owned(),
            status.version.clone(),
            bytes(status.database_bytes),
            bytes(status.database_used_bytes),
            if status.log_index == 0 { String::new() } else { format!("{}/{}", status.log_term, status.log_index) },
            message.join("; "),
        ];
        if wide {
            row.push(status.cluster_id.clone());
            row.extend([status.revision, status.raft_index, status.raft_applied_index].map(|number| number.to_string()));
            row.push(status.storage_version.clone());
        }
        table.row(row);
    }
    table
}

fn status_value(node: &HostPort, status: &GetEtcdStatusResponse) -> Value {
    json!({
        "node": node.to_string(), "hostname": status.hostname, "id": status.member_id, "name": status.name, "cluster": status.cluster_id,
        "running": status.running, "quorum": status.quorum, "learner": status.learner, "leader": status.leader_id,
        "version": status.version, "storageVersion": status.storage_version,
        "databaseBytes": status.database_bytes, "databaseUsedBytes": status.database_used_bytes, "revision": status.revision,
        "raftTerm": status.raft_term, "raftIndex": status.raft_index, "raftAppliedIndex": status.raft_applied_index,
        "logTerm": status.log_term, "logIndex": status.log_index, "errors": status.errors, "waitsFor": status.waits_for,
    })
}

impl Remove {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: Session, dry_run: bool| {
            let request = RemoveEtcdMemberRequest { member: self.member.clone(), dry_run, force: self.force };
            session.ask(session.etcd().remove_member(request)).await
        };
        let connection = world.connection.any().await?;
        let plan = connection.one(QUICK, async |session| ask(session, true).await).await?.plan;
        plan.iter().for_each(|step| write(&format!("{step}\n")));
        if self.dry_run || !(self.yes || confirmed("It has to join anew if it ever comes back. Go on?")?) {
            return Ok(());
        }
        connection.one(SLOW, async |session| ask(session, false).await).await?;
        write("removed\n");
        Ok(())
    }
}
