//! Defragmenting a member, and alarms.

use controlplane::etcd::quorum::{Quorum, while_away};

use super::{Client, agreeing, observe};
use crate::controllers::etcd_members::Seen;
use crate::etcd::QUICK;
use crate::etcd::maintenance::{self, Alarm, AlarmKind};
use crate::node::Node;
use crate::power::parting::away;
use crate::refusal::Refusal;

/// What defragmenting did.
#[derive(Debug, Default)]
pub struct Defragmented {
    pub plan: Vec<String>,
    pub before_bytes: u64,
    pub after_bytes: u64,
}

pub async fn defragment(node: &Node, dry_run: bool, force: bool) -> Result<Defragmented, Refusal> {
    let words = decide(&observe(node).await?, force || dry_run)?;
    let client = Client::new(node)?;
    let size = async || maintenance::status(client.own(), QUICK).await.map(|status| (status.database_bytes, status.database_used_bytes));
    let (before_bytes, used) = size().await.map_err(Refusal::etcd)?;
    let plan = vec![format!("write etcd's database anew: {used} of {before_bytes} bytes are used; it does not answer meanwhile"), words];
    if dry_run {
        return Ok(Defragmented { plan, before_bytes, after_bytes: before_bytes });
    }
    maintenance::defragment(client.own()).await.map_err(Refusal::etcd)?;
    let (after_bytes, _) = size().await.map_err(Refusal::etcd)?;
    node.events.emit("service/etcd", "Defragmented", format!("its database has {after_bytes} bytes instead of {before_bytes}"));
    Ok(Defragmented { plan, before_bytes, after_bytes })
}

/// Meanwhile the member is as good as away.
pub fn decide(seen: &Seen, force: bool) -> Result<String, Refusal> {
    let cluster = agreeing(seen)?;
    let Some(id) = seen.own_id().filter(|_| seen.own.is_some()) else {
        return Err(Refusal::state("NO_MEMBER", "this machine's etcd does not answer", "see machinectl services"));
    };
    let quorum = while_away(id, &seen.voters(cluster));
    match quorum {
        Quorum::Lost { .. } if !force => {
            Err(Refusal::state("ETCD_QUORUM", away(quorum), "repair the others first (machinectl etcd members), or accept it with --force"))
        }
        _ => Ok(away(quorum)),
    }
}

pub async fn alarms(node: &Node) -> Result<Vec<Alarm>, Refusal> {
    maintenance::alarms(Client::new(node)?.own()).await.map_err(Refusal::etcd)
}

/// Those that were.
pub async fn disarm(node: &Node, named: &str) -> Result<Vec<Alarm>, Refusal> {
    let kind = match named {
        "" => None,
        name => Some(AlarmKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known: Vec<&str> = AlarmKind::ALL.into_iter().map(AlarmKind::name).collect();
            Refusal::field("alarm", format!("{name:?}; expected one of {}, or nothing for all", known.join(", ")))
        })?),
    };
    let client = Client::new(node)?;
    let armed = maintenance::alarms(client.own()).await.map_err(Refusal::etcd)?;
    let armed: Vec<Alarm> = armed.into_iter().filter(|alarm| kind.is_none_or(|kind| alarm.kind == kind)).collect();
    for alarm in &armed {
        maintenance::disarm(client.own(), *alarm).await.map_err(Refusal::etcd)?;
        node.events.emit("service/etcd", "Disarmed", format!("alarm {} of member {}", alarm.kind.name(), alarm.member));
    }
    Ok(armed)
}
