//! Takes the audit log to where the machine config says: in order, from where each sink got to, however long one cannot be reached.
//!
//! How far a sink got lies beside the log. A record may reach a sink twice, but none is left out: a sink tells by the record's number.
//!
//! reads: machine config, resolvers   writes: auditsinks

mod syslog;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use machine::Root;
use machine::audit::Head;
use machine::config::AuditSink;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::{Audit, page};
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
    let mut pause = FIRST_PAUSE;
    let mut status = AuditSinkStatus { url: sink.url.clone(), ..AuditSinkStatus::default() };
    let mut newest = audit.newest();
    loop {
        let error = match send(&node, &audit, &sink, &mut newest, &mut status, &mut pause).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        status.error = format!("{error:#}");
        node.store.put(&name(&sink.url), &status);
        tracing::warn!("audit sink {}: {:#}; again in {} s", sink.url, error, pause.as_secs());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Sends until something goes wrong.
async fn send(
    node: &Node,
    audit: &Audit,
    sink: &AuditSink,
    newest: &mut tokio::sync::watch::Receiver<u64>,
    status: &mut AuditSinkStatus,
    pause: &mut Duration,
) -> anyhow::Result<std::convert::Infallible> {
    let file = position_file(&node.root, &sink.url);
    let mut wire = Wire::open(node, sink).await?;
    let taken = state_record::read::<Position>(&file)?.map_or(0, |position| position.number);
    let mut number = if wire.answers() { taken } else { taken.saturating_sub(REPEATED) };
    loop {
        newest.borrow_and_update();
        while let Some(lines) = next(audit, number).await? {
            for lines in lines.1.chunks(LINES).scan(lines.0, |head, lines| {
                let first = head.number + 1;
                head.number += lines.len() as u64;
                Some((first, lines))
            }) {
                let (first, lines) = lines;
                wire.send(lines).await.with_context(|| format!("sending records from {first} on"))?;
                number = first + lines.len() as u64 - 1;
                let position = Position { version: Position::VERSION, url: sink.url.clone(), number };
                files::write(&file, &serde_json::to_vec(&position)?, 0o600)?;
                *pause = FIRST_PAUSE;
                *status = AuditSinkStatus { url: sink.url.clone(), delivered: number, error: String::new() };
                node.store.put(&name(&sink.url), status);
            }
        }
        tokio::select! {
            changed = newest.changed() => changed.context("the audit log has ended")?,
            gone = wire.ended() => gone?,
        }
    }
}

/// Lines after this record, with the head before them.
async fn next(audit: &Audit, number: u64) -> anyhow::Result<Option<(Head, Vec<String>)>> {
    let directory = audit.directory.clone();
    let page = tokio::task::spawn_blocking(move || page(&directory, number + 1)).await??;
    // After a reset the log is another one, and shorter.
    Ok(page.map(|page| (page.start, page.lines)))
}

fn name(url: &str) -> String {
    hex::encode(&Sha256::digest(url)[..8])
}

fn position_file(root: &Root, url: &str) -> PathBuf {
    root.audit_sinks().join(format!("{}.json", name(url)))
}

#[cfg(test)]
mod tests;
