//! The image swap: an update is offered and written into the slot that is not running, the next boot tries it, and it is kept only if it
//! proves itself. The health gate decides; this carries out.
//!
//! reads: what init found at boot, the records on STATE, the boot loader's entries   writes: slots, upgrades

mod base;
mod blocks;
pub mod disk;
pub mod esp;
#[cfg(test)]
pub mod fixtures;
mod index;
mod last_words;
pub mod offer;
mod parts;
pub mod phase;
#[cfg(test)]
pub mod played;
pub mod progress;
pub mod records;
pub mod restraint;
mod session;
mod settle;
pub mod slots;
mod snapshot;
pub mod start;
mod survey;
pub mod swap;
#[cfg(test)]
mod tests;
mod tree;
pub mod uki;
pub mod upload;
pub mod work;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use machine::Root;
use machine::disk::Slot;
use tokio::sync::Mutex;

use crate::controllers::images;
use crate::failpoint::Failpoints;
use crate::identity;
use crate::node::Node;
use crate::power::Power;
use crate::refusal::Refusal;
use progress::Reporter;
use records::{Reason, Record, Records};
use slots::Slots;
use swap::{NoSlots, Swap};
use work::Work;

/// The machine's upgrades; one at a time.
#[derive(Debug)]
pub struct Upgrades {
    node: Node,
    power: Power,
    swap: Result<Swap, NoSlots>,
    /// Held by whoever changes a slot, also where its caller has gone.
    work: Arc<Mutex<Work>>,
    reporter: Reporter,
    /// Whether the running image was given up in this boot: a gate that comes to another end at the same time is too late.
    given_up: Mutex<bool>,
}

impl Upgrades {
    /// After init told what it found at boot.
    pub fn new(node: Node, power: Power, failpoints: Failpoints) -> Upgrades {
        let swap = Swap::new(&node.root, &node.boot_facts(), images::facts(&node.root), failpoints);
        Upgrades { node, power, swap, work: Arc::default(), reporter: Reporter::default(), given_up: Mutex::default() }
    }

    /// Brings everything in line with the slot that runs: once, with STATE open, before the machine config is read.
    pub async fn settle(&self) {
        let Ok(swap) = &self.swap else { return };
        let settling = swap.clone();
        match blocking(move || settling.settle()).await {
            Ok(told) => {
                for line in told {
                    self.say("Settled", &line);
                }
            }
            Err(error) => self.node.console.print(&format!("settling the last upgrade: {:#}", anyhow::Error::from(error))),
        }
        self.publish().await;
    }

    /// Whether the running image is still to prove itself. Where the boot loader's entries cannot be read, what it said at boot counts.
    pub async fn is_on_trial(&self) -> bool {
        let counted = self.node.boot_facts().counted;
        let Ok(swap) = self.swap.clone() else { return counted };
        blocking(move || Ok(swap.on_trial(&swap.esp.entries()?))).await.unwrap_or(counted)
    }

    /// The record of the image that is on trial in this boot.
    pub async fn on_trial(&self) -> Option<Record> {
        let swap = self.swap.clone().ok()?;
        blocking(move || swap.proving()).await.ok().flatten()
    }

    /// Keeps the running image: from now on the boot loader takes it without counting.
    pub async fn bless(&self) -> Result<(), Refusal> {
        let swap = self.swap()?.clone();
        let given_up = self.given_up.lock().await;
        if *given_up {
            return Err(Refusal::state("GIVEN_UP", "the running image was given up", "it is left with the next reboot"));
        }
        let blessed = blocking(move || swap.bless(swap.lasting_generation())).await?;
        if let Some(record) = blessed {
            let line = format!("{} to {}: the image is good", record.kind.name(), record.to_version);
            self.reporter.tell(record.phase, &line);
            self.say("Blessed", &line);
        }
        self.publish().await;
        Ok(())
    }

    /// Gives the running image up: no tries are left, and the config of before is back. The caller reboots.
    pub async fn fail(&self, reason: Reason) -> Result<(), Refusal> {
        let swap = self.swap()?.clone();
        *self.given_up.lock().await = true;
        let line = format!("the image on trial is not good: {}: {}", reason.check, reason.message);
        self.say("Condemned", &line);
        if let Some(record) = blocking(move || swap.fail(reason)).await? {
            self.reporter.tell(record.phase, &line);
        }
        self.publish().await;
        Ok(())
    }

    /// What is under way, for whoever watches.
    pub fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    /// The newest record.
    pub async fn newest(&self) -> Option<Record> {
        let swap = self.swap.clone().ok()?;
        blocking(move || Ok(swap.records.list()?.pop())).await.ok().flatten()
    }

    fn swap(&self) -> Result<&Swap, Refusal> {
        let remedy = "install Corten to a disk and boot from it";
        self.swap.as_ref().map_err(|NoSlots(problem)| Refusal::state("NO_SLOTS", problem, remedy))
    }

    /// What came of an upgrade must be kept, or the other slot would know nothing of it.
    fn require_state(&self) -> Result<(), Refusal> {
        let remedy = "see the console and machinectl get volumes for what is wrong with the disk";
        identity::state_problem(&self.node).map_or(Ok(()), |problem| Err(Refusal::state("STATE_CLOSED", problem, remedy)))
    }

    fn say(&self, reason: &'static str, line: &str) {
        self.node.events.emit("machine", reason, line);
        self.node.console.print(line);
    }

    /// Puts slots and records on the board.
    async fn publish(&self) {
        let Ok(swap) = self.swap.clone() else { return };
        match blocking(move || Ok((swap.statuses()?, swap.records.list()?))).await {
            Ok((slots, records)) => {
                self.node.store.replace(slots.into_iter().map(|status| (status.slot.name().to_owned(), status)));
                self.node.store.replace(records.into_iter().map(|record| (record.number.to_string(), record)));
            }
            Err(error) => tracing::warn!("looking at the slots: {:#}", anyhow::Error::from(error)),
        }
    }
}

/// Config generations that an image may get back: they are kept for as long as it is.
pub fn pinned_generations(root: &Root) -> BTreeSet<u64> {
    let slots = Slots::new(root.slot_records());
    let of_slots = Slot::ALL.into_iter().filter_map(|slot| slots.get(slot)).map(|record| record.generation);
    let record = Records::new(root.upgrade_records()).current().ok().flatten();
    of_slots.chain(record.into_iter().flat_map(|record| [record.generation, record.restore])).filter(|number| *number > 0).collect()
}

/// Runs what works on disks off the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> anyhow::Result<T> + Send + 'static) -> Result<T, Refusal> {
    Ok(tokio::task::spawn_blocking(work).await.context("working on the slots")??)
}
