//! `etcd defrag`, one member at a time, and `etcd alarm`.

use std::time::{Duration, Instant};

use api::v1::{
    DefragmentEtcdRequest, DisarmEtcdAlarmsRequest, EtcdAlarm, GetEtcdStatusResponse, ListEtcdAlarmsRequest, ListEtcdMembersRequest,
};
use clap::{Args, Subcommand};
use machine::config::HostPort;
use serde_json::{Value, json};

use super::members::status;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write};
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::{QUICK, SLOW};

/// How long the members may take to be healthy again between two of them.
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(500);

/// Give the space of deleted data back: one member after the other, the leader last
#[derive(Debug, Args)]
pub struct Defrag {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Also where etcd loses its quorum meanwhile
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
pub enum Alarm {
    List(List),
    Disarm(Disarm),
}

/// List alarms
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    output: Output,
}

/// Disarm alarms, once what raised them is mended
#[derive(Debug, Args)]
pub struct Disarm {
    /// NOSPACE or CORRUPT [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    alarm: String,
}

impl Defrag {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let looked = world.connection.each(QUICK, async |session| status(&session).await).await?;
        // Several in the context are meant: nothing is lost by it.
        let nodes = in_order(&looked.done);
        looked.outcome()?;
        let progress = Progress::waiting(world.quiet);
        for node in nodes {
            let request = DefragmentEtcdRequest { dry_run: self.dry_run, force: self.force };
            let one = world.connection.among(vec![node.clone()]);
            progress.wait_for(format!("{node} defragments"));
            let defragment = async |session: Session| {
                let answer = session.ask(session.etcd().defragment(request)).await?;
                if !self.dry_run {
                    until_healthy(&session, self.force).await?;
                }
                Ok(answer)
            };
            let answer = one.one(SLOW, defragment).await?;
            if self.dry_run {
                write(&format!("{node}: {}\n", answer.plan.join("; ")));
            } else {
                write(&format!("{node}: {} bytes, before {}\n", answer.bytes_after, answer.bytes_before));
            }
        }
        Ok(())
    }
}

/// The leader last: its place is taken by another if it is silent for long.
fn in_order(found: &[(HostPort, GetEtcdStatusResponse)]) -> Vec<HostPort> {
    let mut members: Vec<&(HostPort, GetEtcdStatusResponse)> = Vec::new();
    for one in found.iter().filter(|(_, status)| status.running) {
        // One machine may be known by several addresses.
        if members.iter().all(|(_, other)| other.member_id != one.1.member_id) {
            members.push(one);
        }
    }
    members.sort_by_key(|(_, status)| status.leader_id == status.member_id);
    members.into_iter().map(|(node, _)| node.clone()).collect()
}

/// Until all members are, as this one sees them.
async fn until_healthy(session: &Session, force: bool) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        let members = session.ask(session.etcd().list_members(ListEtcdMembersRequest {})).await;
        let trouble = match members {
            Ok(response) => {
                response.members.into_iter().find(|member| !member.healthy).map(|member| format!("{}: {}", member.name, member.message))
            }
            Err(failure) => Some(failure.to_string()),
        };
        let Some(trouble) = trouble.filter(|_| !force) else { return Ok(()) };
        if started.elapsed() > HEALTHY_WITHIN {
            return Err(Failure::new(&session.node, format!("not all members are healthy afterwards: {trouble}"))
                .remedy("repair it, then go on with the rest"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

impl Alarm {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let connection = world.connection.any().await?;
        match self {
            Alarm::List(List { output }) => {
                let ask = async |session: Session| session.ask(session.etcd().list_alarms(ListEtcdAlarmsRequest {})).await;
                let alarms = connection.one(QUICK, ask).await?.alarms;
                output.print(|_| table(&alarms), || alarms.iter().map(value).collect());
            }
            Alarm::Disarm(Disarm { alarm }) => {
                let request = DisarmEtcdAlarmsRequest { alarm };
                let ask = async |session: Session| session.ask(session.etcd().disarm_alarms(request.clone())).await;
                let alarms = connection.one(QUICK, ask).await?.alarms;
                alarms.iter().for_each(|alarm| write(&format!("{} of member {} is disarmed\n", alarm.alarm, alarm.member_id)));
            }
        }
        Ok(())
    }
}

fn table(alarms: &[EtcdAlarm]) -> Table {
    let mut table = Table::new(&["MEMBER", "ALARM"]);
    alarms.iter().for_each(|alarm| table.row([alarm.member_id.clone(), alarm.alarm.clone()]));
    table
}

fn value(alarm: &EtcdAlarm) -> Value {
    json!({ "member": alarm.member_id, "alarm": alarm.alarm })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_comes_last_and_each_member_once() {
        let one = |host: &str, member: &str, running| {
            let status = GetEtcdStatusResponse { member_id: member.to_owned(), leader_id: "a".to_owned(), running, ..Default::default() };
            (crate::connection::node(host).unwrap(), status)
        };
        let found = [one("192.0.2.1", "a", true), one("192.0.2.2", "b", true), one("192.0.2.3", "c", false), one("192.0.2.9", "b", true)];
        let order: Vec<String> = in_order(&found).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["192.0.2.2:50000", "192.0.2.1:50000"]);
    }
}
