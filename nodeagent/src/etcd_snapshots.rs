//! Snapshots of etcd that are taken by themselves: encrypted, read back and checked, and only so many kept. A directory gets one from each
//! control plane in its turn; a bucket gets one from etcd's leader.
//!
//! What is due is told by what is there: nothing is remembered.
//!
//! reads: machine config, etcdmembers, service etcd, certificates   writes: etcdsnapshots

mod directory;
mod plan;
mod s3;
mod signature;
mod take;

use std::time::Duration;

use machine::config::EtcdSnapshots;

use crate::clock::wall_seconds;
use crate::controllers::etcd::ID;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::etcd::{EtcdMember, EtcdRole};
use crate::resources::etcd_snapshots::SnapshotSchedule;
use crate::resources::services;
use directory::Directory;
use plan::{Name, Turn};
use s3::Bucket;

/// How often it is looked whether one is due.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);

/// Where they go.
#[derive(Debug)]
enum Place {
    Directory(Directory),
    Bucket(Box<Bucket>),
}

impl Place {
    fn of(node: &Node, wanted: &EtcdSnapshots) -> anyhow::Result<Place> {
        Ok(match &wanted.s3 {
            None => Place::Directory(Directory::new(node.root.path(&wanted.directory))),
            Some(bucket) => Place::Bucket(Box::new(Bucket::new(node, bucket)?)),
        })
    }

    async fn list(&self) -> anyhow::Result<Vec<String>> {
        match self {
            Place::Directory(directory) => directory.list(),
            Place::Bucket(bucket) => bucket.list().await,
        }
    }

    async fn remove(&self, name: &str) -> anyhow::Result<()> {
        match self {
            Place::Directory(directory) => directory.remove(name),
            Place::Bucket(bucket) => bucket.remove(name).await,
        }
    }
}

/// Runs for ever.
pub async fn run(node: Node) {
    let mut config = node.watch_config();
    let mut pause = FIRST_PAUSE;
    loop {
        config.mark_unchanged();
        let wait = match look(&node).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                LOOK_AGAIN
            }
            Err(error) => {
                tracing::warn!("snapshot of etcd: {error:#}");
                let told = node.store.get::<SnapshotSchedule>(SnapshotSchedule::NAME).unwrap_or_default();
                node.store.put(SnapshotSchedule::NAME, &SnapshotSchedule { error: format!("{error:#}"), ..told });
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = config.changed() => if changed.is_err() { return },
        }
    }
}

/// Takes one if it is due.
async fn look(node: &Node) -> anyhow::Result<()> {
    let Some((machine, wanted)) = wanted(node) else {
        node.store.remove::<SnapshotSchedule>(SnapshotSchedule::NAME);
        return Ok(());
    };
    let Some(turn) = turn(node, &wanted).filter(|_| services::is_ready(&node.store, ID)) else { return Ok(()) };
    let place = Place::of(node, &wanted)?;
    let cluster = &machine.config.cluster.name;
    let there = Name::all(cluster, &place.list().await?);
    if let Some(due_in) = plan::due_in(wall_seconds(), there.last(), wanted.interval.0, turn) {
        let last = there.last().map(Name::text).unwrap_or_default();
        tell(node, &wanted, |told| SnapshotSchedule {
            last,
            kept: there.len() as u64,
            next_in_seconds: due_in,
            error: String::new(),
            ..told
        });
        return Ok(());
    }
    let name = Name::new(cluster, wall_seconds());
    let bytes = take::take(node, &place, &name.text()).await?;
    let kept = Name::all(cluster, &place.list().await?);
    let surplus = kept.len().saturating_sub(wanted.keep as usize);
    for old in &kept[..surplus] {
        place.remove(&old.text()).await?;
    }
    node.events.emit("service/etcd", "Snapshot", format!("{} is saved and checked: {bytes} bytes", name.text()));
    tell(node, &wanted, |_| SnapshotSchedule {
        last: name.text(),
        bytes,
        kept: (kept.len() - surplus) as u64,
        next_in_seconds: wanted.interval.0.as_secs(),
        ..SnapshotSchedule::default()
    });
    Ok(())
}

fn wanted(node: &Node) -> Option<(Machine, EtcdSnapshots)> {
    let machine = Machine::observe(node).ok().filter(Machine::is_control_plane)?;
    let wanted = machine.config.cluster.etcd.snapshots.clone()?;
    Some((machine, wanted))
}

/// This machine's turn among the members; none where another one does it.
fn turn(node: &Node, wanted: &EtcdSnapshots) -> Option<Turn> {
    let members = node.store.all::<EtcdMember>();
    let voters: Vec<&EtcdMember> = members.values().filter(|member| matches!(member.role, EtcdRole::Leader | EtcdRole::Voter)).collect();
    let position = voters.iter().position(|member| member.local)?;
    match wanted.s3 {
        Some(_) => (voters[position].role == EtcdRole::Leader).then_some(Turn { position: 0, of: 1 }),
        None => Some(Turn { position: position as u32, of: voters.len() as u32 }),
    }
}

fn tell(node: &Node, wanted: &EtcdSnapshots, status: impl FnOnce(SnapshotSchedule) -> SnapshotSchedule) {
    let told = node.store.get::<SnapshotSchedule>(SnapshotSchedule::NAME).unwrap_or_default();
    let place = match &wanted.s3 {
        Some(s3) => format!("{}/{}/{}", s3.endpoint, s3.bucket, s3.prefix),
        None => wanted.directory.clone(),
    };
    node.store.put(SnapshotSchedule::NAME, &SnapshotSchedule { place, ..status(told) });
}

#[cfg(test)]
mod tests;
