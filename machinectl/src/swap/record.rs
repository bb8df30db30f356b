//! The machine's own record of an upgrade or rollback (resources of kind `upgrades`): what is waited for after the reboot.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use api::v1::watch_resources_response::Change;
use api::v1::{ListResourcesRequest, Object, WatchResourcesRequest};
use machine::config::HostPort;
use machine::upgrade::{Kind, Phase};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio_stream::StreamExt;
use tonic::Status;

use crate::failure::{self, Failure};
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::health::AGAIN;

const RESOURCES: &str = "upgrades";

/// What is needed of it. All fields have defaults: the machine may be of another release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    pub number: u64,
    #[serde(deserialize_with = "known")]
    kind: Option<Kind>,
    pub from_version: String,
    pub to_version: String,
    pub from_slot: String,
    pub to_slot: String,
    #[serde(deserialize_with = "known")]
    phase: Option<Phase>,
    boots: u64,
    reason: Option<Reason>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reason {
    /// The check that did not pass.
    check: String,
    message: String,
    log_tail: Vec<String>,
}

/// None for a word of a later release.
fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(serde_json::Value::deserialize(deserializer)?).ok())
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Blessed(Record),
    /// The machine fell back, or is about to.
    Failed(Record),
}

/// What the machine does in a phase, in words.
fn words(phase: Option<Phase>) -> &'static str {
    match phase {
        Some(Phase::Writing) => "writing the other slot",
        Some(Phase::Verifying) => "reading the other slot back",
        Some(Phase::Ready) => "ready to reboot",
        Some(Phase::Booting) => "booting",
        Some(Phase::Proving) => "the new image runs and is being proven",
        Some(Phase::Blessed) => "proven good",
        Some(Phase::Failed) => "failed",
        Some(Phase::Cancelled) => "cancelled",
        None => "in a phase that this machinectl does not know",
    }
}

impl Record {
    fn of(object: Object) -> Option<Record> {
        serde_json::from_value(api::json::from_struct(object.status?).into()).ok()
    }

    /// Whether the image was on trial, and a rollback was asked for.
    pub fn was_given_up(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.check == "rollback")
    }

    /// Why the image was not kept, with the last lines of its log before it: what happened comes last, where a terminal still shows it.
    pub fn failure(&self, node: &HostPort) -> Failure {
        let Record { from_version, to_version, .. } = self;
        let Reason { check, message, log_tail } = self.reason.clone().unwrap_or_default();
        let said = match (check.as_str(), message.as_str()) {
            ("", "") => "the machine gives no reason".to_owned(),
            ("", message) => message.to_owned(),
            (check, message) => format!("check {check}: {message}"),
        };
        let log = (!log_tail.is_empty()).then(|| format!("last lines of the log:\n    {}", log_tail.join("\n    ")));
        let problems = log.into_iter().chain([format!("{to_version} was not kept, the machine falls back to {from_version}: {said}")]);
        let again = match self.kind {
            Some(Kind::Upgrade) | None => "; this version is taken again only with --retry-failed",
            Some(Kind::Rollback) => "",
        };
        let remedy = format!("see `machinectl get upgrades {} -n {node} -o yaml`{again}", self.number);
        Failure { problems: problems.collect(), ..Failure::new(node, "") }.remedy(remedy)
    }
}

async fn list(session: &Session) -> Result<Vec<Record>, Failure> {
    let objects = session.ask(session.resource().list(ListResourcesRequest { kind: RESOURCES.to_owned() })).await?.objects;
    Ok(objects.into_iter().filter_map(Record::of).collect())
}

/// Numbers of the records that have ended: none of them is that of a change which is begun now.
pub async fn ended(session: &Session) -> Result<BTreeSet<u64>, Failure> {
    let ended = list(session).await?.into_iter().filter(|record| record.phase.is_some_and(Phase::is_over));
    Ok(ended.map(|record| record.number).collect())
}

/// Whether the other slot is the one to boot: for whoever lost the connection while asking for that.
pub async fn is_flipped(session: &Session, before: &BTreeSet<u64>, staged: bool) -> Result<bool, Failure> {
    let ours = list(session).await?.into_iter().filter(|record| !before.contains(&record.number)).max_by_key(|record| record.number);
    Ok(ours.is_some_and(|record| match record.phase {
        Some(Phase::Writing | Phase::Verifying) | None => false,
        Some(Phase::Ready) => staged,
        Some(Phase::Booting | Phase::Proving | Phase::Blessed | Phase::Failed | Phase::Cancelled) => true,
    }))
}

/// Waits until the change that was begun has ended, over reboots: a connection that breaks is made anew for as long as there is time.
pub async fn fate(session: &Session, before: &BTreeSet<u64>, deadline: Duration, progress: &Progress) -> Result<Fate, Failure> {
    let mut last = Last::default();
    let whole = async {
        loop {
            match follow(session, before, &mut last, progress).await {
                Ok(Some(fate)) => return fate,
                Ok(None) => {}
                Err(status) => last.trouble = session.failed(&status).problems.join("; "),
            }
            progress.wait_for(format!("{}: {}", session.node, last));
            tokio::time::sleep(AGAIN).await;
        }
    };
    match tokio::time::timeout(deadline, whole).await {
        Ok(fate) => fate,
        Err(_) => {
            let problem = format!("not proven good within {}; {last}", machine::config::Duration(deadline));
            let remedy = format!("it may still be: see `machinectl get upgrades -n {}`; give it more time with --wait", session.node);
            Err(Failure { kind: failure::Kind::Deadline, ..Failure::new(&session.node, problem) }.remedy(remedy))
        }
    }
}

/// What was seen last.
#[derive(Debug, Default)]
struct Last {
    /// Of the record, once there is one.
    phase: Option<Option<Phase>>,
    boots: u64,
    trouble: String,
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phase {
            None => f.write_str("the machine has no record of it yet")?,
            Some(phase) => write!(f, "last seen: {}", words(phase))?,
        }
        if self.trouble.is_empty() { Ok(()) } else { write!(f, "; {}", self.trouble) }
    }
}

/// Looks at the records as they change; `None` if the machine ends the watch.
async fn follow(
    session: &Session,
    before: &BTreeSet<u64>,
    last: &mut Last,
    progress: &Progress,
) -> Result<Option<Result<Fate, Failure>>, Status> {
    let request = WatchResourcesRequest { kind: RESOURCES.to_owned(), name: String::new() };
    let mut changes = session.resource().watch(request).await?.into_inner();
    last.trouble.clear();
    let mut newest: Option<Record> = None;
    let mut synced = false;
    while let Some(change) = changes.next().await {
        let change = change?;
        synced |= change.change() == Change::Synced;
        let record = change.object.and_then(Record::of).filter(|record| !before.contains(&record.number));
        // The one that was begun last is ours; until the mark the records come in any order.
        newest = newer(newest, record);
        if let (true, Some(record)) = (synced, &newest)
            && let Some(end) = see(session, record, last, progress)
        {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// The later state of the later record.
fn newer(known: Option<Record>, seen: Option<Record>) -> Option<Record> {
    match (known, seen) {
        (Some(known), Some(seen)) if seen.number < known.number => Some(known),
        (known, seen) => seen.or(known),
    }
}

/// Tells of what changed; how it ended, if it has.
fn see(session: &Session, record: &Record, last: &mut Last, progress: &Progress) -> Option<Result<Fate, Failure>> {
    if last.phase != Some(record.phase) || last.boots < record.boots {
        let boot = if record.boots > 1 { format!(" (boot {})", record.boots) } else { String::new() };
        progress.done(&format!("{}: {}{boot}", session.node, words(record.phase)));
        progress.wait_for(format!("{}: {}", session.node, words(record.phase)));
    }
    (last.phase, last.boots) = (Some(record.phase), record.boots);
    match record.phase {
        Some(Phase::Blessed) => Some(Ok(Fate::Blessed(record.clone()))),
        Some(Phase::Failed) => Some(Ok(Fate::Failed(record.clone()))),
        Some(Phase::Cancelled) => {
            let failure = Failure::new(&session.node, "cancelled: another upgrade or rollback took its place");
            Some(Err(failure.remedy(format!("see `machinectl get upgrades -n {}`", session.node))))
        }
        Some(Phase::Writing | Phase::Verifying | Phase::Ready | Phase::Booting | Phase::Proving) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(status: serde_json::Value) -> Record {
        let status = status.as_object().cloned().map(api::json::to_struct);
        Record::of(Object { kind: RESOURCES.to_owned(), name: "7".to_owned(), revision: 1, spec: None, status }).expect("a record")
    }

    #[test]
    fn a_record_of_a_later_release_is_read() {
        let record = record(json!({ "version": 2, "number": 7, "phase": "pondering", "toVersion": "0.2.0", "new": {} }));
        assert_eq!((record.number, record.phase), (7, None));
    }

    #[test]
    fn why_it_was_not_kept_comes_after_the_log() {
        let node = crate::connection::node("cp-1").expect("a node");
        let reason = json!({ "check": "kubelet", "message": "kubelet ended with status 1", "logTail": ["one", "two"] });
        let failed = record(json!({ "number": 7, "fromVersion": "0.1.0", "toVersion": "0.2.0", "phase": "failed", "reason": reason }));
        let text = failed.failure(&node).to_string();
        assert_eq!(
            text,
            "cp-1:50000: last lines of the log:\n    one\n    two\n\
             cp-1:50000: 0.2.0 was not kept, the machine falls back to 0.1.0: check kubelet: kubelet ended with status 1; \
             see `machinectl get upgrades 7 -n cp-1:50000 -o yaml`; this version is taken again only with --retry-failed"
        );
        let silent = record(json!({ "number": 8, "kind": "rollback", "phase": "failed" })).failure(&node).to_string();
        assert!(silent.contains("the machine gives no reason") && silent.ends_with("-o yaml`"), "{silent}");
    }
}
