//! What happened to the machine, newest last: a bounded list in memory that the machine API shows and follows.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// Events kept; older ones are dropped.
const KEPT: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts all events since the agent started, from 1.
    pub number: u64,
    pub at: SystemTime,
    /// Whom it is about: `service/kubelet`, `config/3`, `machine`.
    pub subject: String,
    /// One word: Started, Failed, Applied, ...
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Default)]
pub struct EventLog {
    kept: Mutex<VecDeque<Event>>,
    newest: watch::Sender<u64>,
}

impl EventLog {
    pub fn emit(&self, subject: impl Into<String>, reason: &'static str, message: impl Into<String>) {
        let mut kept = self.lock();
        let number = kept.back().map_or(1, |event| event.number + 1);
        let event = Event { number, at: SystemTime::now(), subject: subject.into(), reason, message: message.into() };
        tracing::info!(subject = event.subject, reason, "{}", event.message);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
        self.newest.send_replace(number);
    }

    /// The first kept event with this number or a higher one.
    pub fn next(&self, from: u64) -> Option<Event> {
        self.lock().iter().find(|event| event.number >= from).cloned()
    }

    /// Number of the first of the last `count` events.
    pub fn tail(&self, count: usize) -> u64 {
        let kept = self.lock();
        let first = kept.len().saturating_sub(count);
        kept.get(first).map_or(kept.back().map_or(1, |event| event.number + 1), |event| event.number)
    }

    /// The newest event's number, and a way to wait for a newer one.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Event>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_numbers_go_on() {
        let log = EventLog::default();
        for number in 0..KEPT + 10 {
            log.emit("machine", "Counted", number.to_string());
        }
        let first = log.next(0).unwrap();
        assert_eq!((first.number, first.message.as_str()), (11, "10"));
        assert_eq!(log.next(first.number + 1).unwrap().message, "11");
        assert_eq!(log.next(KEPT as u64 + 11), None);
        assert_eq!(log.tail(1), KEPT as u64 + 10);
        assert_eq!(log.tail(0), KEPT as u64 + 11);
        assert_eq!(log.tail(10 * KEPT), 11);
    }
}
