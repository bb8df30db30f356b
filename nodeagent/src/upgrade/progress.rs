//! How far an upgrade is, for whoever watches: the newest state, not every one.

use std::sync::Arc;

use tokio::sync::watch;

use super::phase::Phase;
use crate::clock::wall_seconds;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Seconds since the epoch.
    pub at: u64,
    pub phase: Phase,
    /// What is being done, in words.
    pub message: String,
    pub done_bytes: u64,
    /// 0 where there is nothing to count.
    pub total_bytes: u64,
}

/// Where progress is told; clones tell the same watchers.
#[derive(Debug, Clone, Default)]
pub struct Reporter(Arc<Channel>);

#[derive(Debug)]
struct Channel(watch::Sender<Option<Progress>>);

impl Default for Channel {
    fn default() -> Channel {
        Channel(watch::Sender::new(None))
    }
}

/// Work that is counted in bytes.
#[derive(Debug)]
pub struct Step {
    reporter: Reporter,
    progress: Progress,
    told: u64,
}

/// Bytes between two messages.
const STRIDE: u64 = 4 * 1024 * 1024;

impl Reporter {
    /// `None` before anything was done.
    pub fn subscribe(&self) -> watch::Receiver<Option<Progress>> {
        self.0.0.subscribe()
    }

    pub fn tell(&self, phase: Phase, message: impl Into<String>) {
        self.send(Progress { at: wall_seconds(), phase, message: message.into(), done_bytes: 0, total_bytes: 0 });
    }

    /// Begins something, in the phase that was told last.
    pub fn step(&self, message: &str, total_bytes: u64) -> Step {
        let phase = self.0.0.borrow().as_ref().map_or(Phase::Writing, |progress| progress.phase);
        let progress = Progress { at: wall_seconds(), phase, message: message.to_owned(), done_bytes: 0, total_bytes };
        self.send(progress.clone());
        Step { reporter: self.clone(), progress, told: 0 }
    }

    fn send(&self, progress: Progress) {
        self.0.0.send_replace(Some(progress));
    }
}

impl Step {
    pub fn advance(&mut self, bytes: u64) {
        self.progress.done_bytes += bytes;
        if self.progress.done_bytes - self.told >= STRIDE || self.progress.done_bytes >= self.progress.total_bytes {
            self.told = self.progress.done_bytes;
            self.progress.at = wall_seconds();
            self.reporter.send(self.progress.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_in_strides_and_at_the_end() {
        let reporter = Reporter::default();
        let mut watcher = reporter.subscribe();
        reporter.tell(Phase::Verifying, "reading back");
        let mut step = reporter.step("root", STRIDE + 2);
        watcher.mark_unchanged();
        step.advance(1);
        assert!(!watcher.has_changed().unwrap());
        step.advance(STRIDE);
        assert_eq!(
            watcher.borrow_and_update().as_ref().map(|progress| (progress.phase, progress.done_bytes)),
            Some((Phase::Verifying, STRIDE + 1))
        );
        step.advance(1);
        assert!(watcher.has_changed().unwrap());
    }
}
