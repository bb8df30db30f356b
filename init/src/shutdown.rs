//! The way down: what is done in which order, how long each step may take, and what is unmounted.

pub mod mounts;
pub mod sequence;

use std::collections::VecDeque;
use std::time::Duration;

use machine::disk::Volume;
use machine::protocol::PowerAction;
use machine::record::LastShutdown;

use sequence::Step;

/// A shutdown under way.
#[derive(Debug)]
pub struct Shutdown {
    action: PowerAction,
    /// Why, in the words of whoever asked for it.
    reason: String,
    steps: VecDeque<Step>,
    /// When the current step began.
    began: Option<Duration>,
    /// What is waited for, as it was shown last.
    shown: String,
    /// When to look again, should nothing else wake init.
    look_again: Duration,
}

/// What a step has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// It waits for these.
    WaitsFor(Vec<String>),
}

/// Between two looks at what gives no sign, such as a mount that is still busy.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Shutdown {
    pub fn new(action: PowerAction, wipe: &[Volume], reason: &str, now: Duration) -> Shutdown {
        let steps = sequence::sequence(action, wipe).into_iter().flat_map(|phase| phase.steps).collect();
        Shutdown { action, reason: reason.to_owned(), steps, began: None, shown: String::new(), look_again: now }
    }

    /// What the next boot is told of this one's end.
    pub fn record(&self, boot_id: &str, at: u64) -> LastShutdown {
        let (boot_id, reason) = (boot_id.to_owned(), self.reason.clone());
        LastShutdown { version: LastShutdown::VERSION, boot_id, action: self.action, reason, at }
    }

    pub fn look_again(&self) -> Duration {
        self.look_again
    }

    /// The step in hand, whether it is only now begun, and whether its time is over.
    pub fn current(&mut self, now: Duration) -> Option<(Step, bool, bool)> {
        let step = *self.steps.front()?;
        let first = self.began.is_none();
        let began = *self.began.get_or_insert(now);
        Some((step, first, now >= began + step.patience()))
    }

    pub fn finish_step(&mut self) {
        self.steps.pop_front();
        self.began = None;
        self.shown.clear();
    }

    /// Goes on waiting; answers what to show, if that has changed.
    pub fn wait(&mut self, names: &[String], now: Duration) -> Option<&str> {
        self.look_again = now + LOOK_AGAIN;
        let names = names.join(", ");
        if names == self.shown {
            return None;
        }
        self.shown = names;
        Some(&self.shown)
    }
}
