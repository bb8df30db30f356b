//! How this machine's member is: what it says itself, and what lies on its disk.

use std::collections::BTreeMap;
use std::path::Path;

use controlplane::etcd::MemberId;
use machine::disk::Volume;

use super::{Client, agreeing, control_plane, observe};
use crate::controller::ControllerStatus;
use crate::controllers::etcd::ID;
use crate::controllers::etcd_members::table;
use crate::etcd::database::{Database, Position};
use crate::etcd::wal::{self, Log};
use crate::etcd::{QUICK, maintenance, members};
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::bootstrap::Bootstrap;
use crate::resources::etcd::EtcdMember;
use crate::resources::services;

/// The members by name, and the cluster's identity.
pub async fn members(node: &Node) -> Result<(BTreeMap<String, EtcdMember>, u64), Refusal> {
    let seen = observe(node).await?;
    let cluster = agreeing(&seen)?;
    Ok((table(&seen), cluster.id))
}

#[derive(Debug)]
pub struct Report {
    /// etcd's name of the member; empty where there is none.
    pub name: String,
    /// None where etcd does not answer.
    pub running: Option<maintenance::Status>,
    /// What the disk says; none where there is no log.
    pub disk: Option<OnDisk>,
    /// The cluster agrees on something now.
    pub quorum: bool,
    pub waits_for: String,
}

#[derive(Debug)]
pub struct OnDisk {
    pub log: Log,
    /// None while etcd has the database open.
    pub position: Option<Position>,
    pub database_bytes: u64,
}

impl Report {
    pub fn member(&self) -> Option<MemberId> {
        let id = self.running.as_ref().map(|status| status.member).or(self.disk.as_ref().map(|disk| disk.log.member))?;
        Some(MemberId(id))
    }

    pub fn cluster(&self) -> Option<u64> {
        self.running.as_ref().map(|status| status.cluster).or(self.disk.as_ref().map(|disk| disk.log.cluster))
    }
}

pub async fn report(node: &Node) -> Result<Report, Refusal> {
    control_plane(node)?;
    let record = node.store.get::<Bootstrap>(Bootstrap::NAME).map(|bootstrap| bootstrap.record);
    let client = Client::new(node).ok().filter(|_| services::is_ready(&node.store, ID) || record.is_some());
    let (running, quorum) = match &client {
        None => (None, false),
        Some(client) => {
            let (status, listed) = futures::future::join(maintenance::status(client.own(), QUICK), members::list(client.own())).await;
            (status.ok(), listed.is_ok())
        }
    };
    let directory = node.root.etcd_data();
    let open = services::is_open(&node.store, Volume::Etcd);
    let runs = running.is_some();
    let disk = tokio::task::spawn_blocking(move || if open { on_disk(&directory, runs) } else { Ok(None) });
    let disk = disk.await.map_err(anyhow::Error::from)??;
    let waiting = |name: &str| node.store.get::<ControllerStatus>(name).map(|status| status.waits_for).unwrap_or_default();
    let waits_for =
        [waiting("etcdrepair"), waiting("etcdmembers"), waiting(ID)].into_iter().find(|nouns| !nouns.is_empty()).unwrap_or_default();
    Ok(Report { name: record.map(|record| record.member).unwrap_or_default(), running, disk, quorum, waits_for: waits_for.join(", ") })
}

fn on_disk(directory: &Path, runs: bool) -> anyhow::Result<Option<OnDisk>> {
    let log = match wal::read(&directory.join("member/wal")) {
        Ok(log) => log,
        Err(wal::WalError::Missing(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let path = directory.join("member/snap/db");
    let database_bytes = std::fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or_default();
    // What etcd writes meanwhile cannot be read.
    let position = if runs { None } else { Database::read(&path).and_then(|database| database.position()).ok() };
    Ok(Some(OnDisk { log, position, database_bytes }))
}
