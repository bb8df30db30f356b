//! The flight recorder: what each boot was and how it ended, on STATE, where the next boot and the other slot read it.
//!
//! reads: services, what init found at boot, the kernel's log, what a crash left   writes: boots

mod ending;
pub mod pstore;
pub mod record;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use machine::Root;
use machine::service::{Exit, ServiceState, ServiceStatus};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock::wall_seconds;
use crate::controllers::images;
use crate::identity;
use crate::logs::kmsg::Kmsg;
use crate::node::Node;
use crate::resources::boot::Boot;
use crate::state_record;
use crate::store::Resource;
use ending::Left;
use pstore::Crash;
pub use record::Record;
use record::{Ending, Records, ServiceSeen, last_bytes};

/// How often the record is written at most, and at least: a boot that is cut short is known to have lasted until about then.
const SAVE_EVERY: Duration = Duration::from_secs(10);
const SAVE_AFTER: Duration = Duration::from_secs(10 * 60);
/// What is kept of the kernel's log.
const KERNEL_LINES: usize = 200;
const KERNEL_BYTES: usize = 24 * 1024;
/// `WDIOF_CARDRESET` of linux/watchdog.h: the card caused the last reset.
const WATCHDOG_RESET: u32 = 0x20;

/// The machine's boots, this one among them.
#[derive(Debug)]
pub struct Boots {
    node: Node,
    records: Records,
    current: Mutex<Record>,
}

impl Boots {
    pub fn new(node: Node) -> Boots {
        Boots { records: Records::new(node.root.boot_records()), node, current: Mutex::default() }
    }

    /// Completes the record of the boot before and begins this one's: once the agent knows whether STATE is open. An agent that starts anew
    /// goes on with the record of its boot.
    pub async fn begin(&self) {
        let facts = self.node.boot_facts();
        let image = images::facts(&self.node.root).map(|image| image.version).unwrap_or_default();
        let now = wall_seconds();
        let this =
            Record { boot_id: facts.boot_id, slot: facts.slot, image_version: image, started_at: now, seen_at: now, ..Record::default() };
        let begun = match identity::state_problem(&self.node) {
            None => self.begin_on_state(this.clone()).await,
            Some(problem) => Err(anyhow::anyhow!("boots are not recorded: {problem}")),
        };
        *self.current.lock().await = begun.unwrap_or_else(|error| {
            tracing::warn!("{error:#}");
            this
        });
        self.publish().await;
    }

    /// Whether this boot is on record: without STATE it is not.
    fn is_kept(record: &Record) -> bool {
        record.number > 0
    }

    async fn begin_on_state(&self, this: Record) -> anyhow::Result<Record> {
        let (records, root) = (self.records.clone(), self.node.root.clone());
        let (this, completed) = blocking(move || {
            let last = records.list()?.pop();
            if let Some(last) = last.clone().filter(|last| last.boot_id == this.boot_id && last.ending.is_none()) {
                return Ok((last, Vec::new()));
            }
            let completed = complete(&records, &root, last)?;
            let this = Record { number: records.next_number()?, ..this };
            records.put(&this)?;
            Ok((this, completed))
        })
        .await?;
        for (ending, reason) in completed.iter().filter_map(|record| Some((record.ending.as_ref()?, record.ending.as_ref()?.reason()))) {
            if !matches!(ending, Ending::Ordered { .. }) {
                self.node.events.emit("machine", "BootEnded", format!("the boot before did not end in order: {reason}"));
                self.node.console.print(&format!("the boot before did not end in order: {reason}"));
            }
        }
        Ok(this)
    }

    /// Keeps this boot's record for as long as the agent lives.
    pub async fn follow(self: Arc<Boots>) {
        let kinds = BTreeSet::from([ServiceStatus::KIND.to_owned()]);
        let mut board = self.node.store.revision();
        loop {
            let revision = *board.borrow_and_update();
            self.save(false).await;
            tokio::time::sleep(SAVE_EVERY).await;
            let changed = async { while !self.node.store.changed_after(revision, &kinds) && board.changed().await.is_ok() {} };
            // A time-out is the sign of life.
            let _ = timeout(SAVE_AFTER, changed).await;
        }
    }

    /// The last word of this boot, while STATE is still open.
    pub async fn end(&self) {
        self.save(true).await;
    }

    async fn save(&self, with_kernel_log: bool) {
        let mut current = self.current.lock().await;
        let services: Vec<ServiceSeen> = self.node.store.all::<ServiceStatus>().values().map(seen).collect();
        if with_kernel_log || has_failed(&current.services, &services) {
            current.kernel_log_tail = kernel_log(&self.node.root.path("/dev/kmsg"));
        }
        (current.services, current.seen_at) = (services, wall_seconds());
        let record = current.clone();
        drop(current);
        self.node.store.put(&record.number.to_string(), &self.running(record.clone()));
        if Self::is_kept(&record) {
            let records = self.records.clone();
            if let Err(error) = blocking(move || records.put(&record)).await {
                tracing::warn!("{error:#}");
            }
        }
    }

    /// Puts all boots on the board; this one as it is, whether it is on STATE or not.
    async fn publish(&self) {
        let current = self.current.lock().await.clone();
        let records = self.records.clone();
        let listed = if Self::is_kept(&current) { blocking(move || records.list()).await } else { Ok(Vec::new()) };
        let earlier = listed.inspect_err(|error| tracing::warn!("{error:#}")).unwrap_or_default().into_iter();
        let number = current.number;
        let earlier = earlier.filter(|record| record.number != number).map(Boot::over);
        let boots = earlier.chain([self.running(current)]);
        self.node.store.replace(boots.map(|boot| (boot.record.number.to_string(), boot)));
    }

    fn running(&self, record: Record) -> Boot {
        match serde_json::to_value(self.node.boot_facts()) {
            Ok(Value::Object(facts)) => Boot::running(record, facts),
            _ => Boot::running(record, Map::new()),
        }
    }
}

/// Writes how the boots before ended, and then forgets what they left elsewhere.
fn complete(records: &Records, root: &Root, last: Option<Record>) -> anyhow::Result<Vec<Record>> {
    let crash = Crash::left(root);
    let left = Left {
        shutdown: state_record::read(&root.last_shutdown())
            .map_err(|error| tracing::warn!("{:#}", anyhow::Error::from(error)))
            .ok()
            .flatten(),
        crash: crash.as_ref().map(|crash| (crash.words(), crash.log.clone())),
        watchdog: watchdog_reset(&root.path("/sys/class/watchdog")),
    };
    let completed = ending::complete(last, left, records.next_number()?);
    for record in &completed {
        records.put(record)?;
    }
    if let Some(crash) = crash {
        crash.forget();
    }
    Ok(completed)
}

/// Whether one of the watchdogs says that it reset the machine (Documentation/ABI/testing/sysfs-class-watchdog).
fn watchdog_reset(class: &Path) -> bool {
    let devices = std::fs::read_dir(class).into_iter().flatten().filter_map(Result::ok);
    let status = |path: std::path::PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
    devices.filter_map(|device| status(device.path().join("bootstatus"))).any(|status| status & WATCHDOG_RESET != 0)
}

/// The last lines; none where there is no such log.
fn kernel_log(device: &Path) -> String {
    let lines = Kmsg::open(device).and_then(|kmsg| kmsg.tail(KERNEL_LINES));
    let lines = lines.inspect_err(|error| tracing::warn!("{}: {error}", device.display())).unwrap_or_default();
    last_bytes(&lines.into_iter().map(|line| line + "\n").collect::<String>(), KERNEL_BYTES)
}

/// Whether a service ended by itself since.
fn has_failed(before: &[ServiceSeen], now: &[ServiceSeen]) -> bool {
    now.iter().any(|now| {
        let before = before.iter().find(|before| before.id == now.id);
        let restarted = now.restarts > before.map_or(0, |before| before.restarts);
        restarted || (matches!(now.state.as_str(), "backoff" | "ended") && before.is_none_or(|before| before.state != now.state))
    })
}

fn seen(status: &ServiceStatus) -> ServiceSeen {
    let state = match status.state {
        ServiceState::Stopped => "stopped",
        ServiceState::Waiting { .. } => "waiting",
        ServiceState::Starting => "starting",
        ServiceState::Ready => "ready",
        ServiceState::Stopping => "stopping",
        ServiceState::Backoff { .. } => "backoff",
        ServiceState::Ended => "ended",
    };
    let last_exit = status.last_exit.as_ref().map(Exit::to_string).unwrap_or_default();
    ServiceSeen { id: status.id.to_string(), state: state.to_owned(), restarts: status.restarts, last_exit }
}

/// Runs what reads and writes STATE off the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("recording the boot")?
}

#[cfg(test)]
mod tests;
