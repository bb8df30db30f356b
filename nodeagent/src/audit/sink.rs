//! Takes the audit log to where the machine config says: in order, from where each sink got to, however long one cannot be reached.
//!
//! How far a sink got lies beside the log. A record may reach a sink twice, but none is left out: a sink tells by the record's number.
//!
//! reads: machine config, resolvers   writes: auditsinks

mod syslog;
mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use machine::Root;
use machine::config::AuditSink;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Audit, Page, page};
use crate::files;
use crate::node::Node;
use crate::resources::audit::AuditSinkStatus;
use crate::state_record::{self, Versioned};
use wire::Wire;

/// Lines sent before it is noted that they were.
const LINES: usize = 100;
/// Records sent again over a new connection where the old one had no answers: its other end may have gone before it read them.
const REPEATED: u64 = 200;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How far a sink got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    pub version: u32,
    pub url: String,
    /// Of the last record that it took.
    pub number: u64,
}

impl Versioned for Position {
    const VERSION: u32 = 1;
}

/// Runs one task for each sink of the config in force.
pub async fn deliver(node: Node, audit: Audit) {
    let mut config = node.watch_config();
    let mut running: BTreeMap<String, (AuditSink, JoinHandle<()>)> = BTreeMap::new();
    loop {
        let wanted: Vec<AuditSink> =
            config.borrow_and_update().as_ref().map(|it| it.config.machine.audit.sinks.clone()).unwrap_or_default();
        running.retain(|url, (sink, task)| {
            let stays = wanted.contains(sink);
            if !stays {
                task.abort();
                node.store.remove::<AuditSinkStatus>(&name(url));
            }
            stays
        });
        for sink in wanted {
            let start = || tokio::spawn(follow(node.clone(), audit.clone(), sink.clone()));
            running.entry(sink.url.clone()).or_insert_with(|| (sink.clone(), start()));
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

async fn follow(node: Node, audit: Audit, sink: AuditSink) {
    let status = AuditSinkStatus { url: sink.url.clone(), ..AuditSinkStatus::default() };
    let mut follower = Follower { newest: audit.newest(), node, directory: audit.directory, sink, status, pause: FIRST_PAUSE };
    loop {
        let error = match follower.send().await {
            Ok(never) => match never {},
            Err(error) => format!("{error:#}"),
        };
        tracing::warn!("audit sink {}: {error}; again in {} s", follower.sink.url, follower.pause.as_secs());
        follower.tell(error);
        tokio::time::sleep(follower.pause).await;
        follower.pause = (follower.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Takes the log to one sink.
struct Follower {
    node: Node,
    /// Of the log.
    directory: PathBuf,
    newest: watch::Receiver<u64>,
    sink: AuditSink,
    status: AuditSinkStatus,
    /// Until it is tried again.
    pause: Duration,
}

impl Follower {
    /// Sends until something goes wrong.
    async fn send(&mut self) -> anyhow::Result<Infallible> {
        let mut wire = Wire::open(&self.node, &self.sink).await?;
        let taken = state_record::read::<Position>(&position_file(&self.node.root, &self.sink.url))?.map_or(0, |position| position.number);
        let mut number = if wire.answers() { taken } else { taken.saturating_sub(REPEATED) };
        loop {
            self.newest.borrow_and_update();
            while let Some(Page { start, lines }) = self.page_after(number).await? {
                number = start.number;
                for lines in lines.chunks(LINES) {
                    wire.send(lines).await.with_context(|| format!("sending records from {} on", number + 1))?;
                    number += lines.len() as u64;
                    self.taken(number)?;
                }
            }
            tokio::select! {
                changed = self.newest.changed() => changed.context("the audit log has ended")?,
                gone = wire.ended() => gone?,
            }
        }
    }

    async fn page_after(&self, number: u64) -> anyhow::Result<Option<Page>> {
        let directory = self.directory.clone();
        Ok(tokio::task::spawn_blocking(move || page(&directory, number + 1)).await??)
    }

    fn taken(&mut self, number: u64) -> anyhow::Result<()> {
        let position = Position { version: Position::VERSION, url: self.sink.url.clone(), number };
        files::write(&position_file(&self.node.root, &self.sink.url), &serde_json::to_vec(&position)?, 0o600)?;
        self.pause = FIRST_PAUSE;
        self.status.delivered = number;
        self.tell(String::new());
        Ok(())
    }

    fn tell(&mut self, error: String) {
        self.status.error = error;
        self.node.store.put(&name(&self.sink.url), &self.status);
    }
}

fn name(url: &str) -> String {
    hex::encode(&Sha256::digest(url)[..8])
}

fn position_file(root: &Root, url: &str) -> PathBuf {
    root.audit_sinks().join(format!("{}.json", name(url)))
}

#[cfg(test)]
mod tests;
