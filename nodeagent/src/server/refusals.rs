//! Tells of what was refused: to the log and to the events, with who asked. A flood of refusals is counted instead of told one by one.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::caller::Peer;
use crate::events::EventLog;

/// Refusals told at once; one more each [`REFILL`].
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(3);
/// The same for the audit log, which lasts: whoever is refused for days must not push out what it holds.
const RECORD_REFILL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Refusals {
    events: Arc<EventLog>,
    quota: Mutex<Quota>,
    records: Mutex<Quota>,
}

#[derive(Debug)]
struct Quota {
    left: u32,
    refill: Duration,
    refilled: Instant,
    untold: u64,
}

impl Refusals {
    pub fn new(events: Arc<EventLog>) -> Refusals {
        Refusals {
            events,
            quota: Mutex::new(Quota::new(REFILL, Instant::now())),
            records: Mutex::new(Quota::new(RECORD_REFILL, Instant::now())),
        }
    }

    /// A connection that ended in its handshake.
    pub fn handshake(&self, address: SocketAddr, subject: Option<&str>, reason: impl Display) {
        let who = subject.unwrap_or("somebody without a certificate");
        self.tell(format!("{who} from {address}: {reason}"));
    }

    /// A call that the permission table denies.
    pub fn call(&self, peer: &Peer, method: &str, reason: impl Display) {
        self.tell(format!("{peer} calling {method}: {reason}"));
    }

    /// What the audit log is to say of a stranger's refused call; `None` if it has said enough for now.
    pub fn record(&self, reason: impl Display) -> Option<String> {
        take(&self.records).map(|more| format!("{reason}{more}"))
    }

    fn tell(&self, message: String) {
        let Some(more) = take(&self.quota) else { return };
        self.events.emit("api", "Refused", message + &more);
    }
}

/// Words about those before that were not told.
fn take(quota: &Mutex<Quota>) -> Option<String> {
    let untold = quota.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())?;
    Some(if untold > 0 { format!(" ({untold} more before this one)") } else { String::new() })
}

impl Quota {
    fn new(refill: Duration, now: Instant) -> Quota {
        Quota { left: BURST, refill, refilled: now, untold: 0 }
    }

    /// How many were left untold before this one; `None` if this one is not to be told either.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let earned = (now.duration_since(self.refilled).as_millis() / self.refill.as_millis()) as u32;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.refilled = now;
        }
        if self.left == 0 {
            self.untold += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted() {
        let start = Instant::now();
        let mut quota = Quota::new(REFILL, start);
        let told = (0..100).filter(|_| quota.take(start).is_some()).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(quota.take(start + REFILL), Some(80));
        assert_eq!(quota.take(start + REFILL), None);
        assert_eq!(quota.take(start + 1000 * REFILL), Some(1));
    }
}
