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

#[derive(Debug)]
pub struct Refusals {
    events: Arc<EventLog>,
    quota: Mutex<Quota>,
}

#[derive(Debug)]
struct Quota {
    left: u32,
    refilled: Instant,
    untold: u64,
}

impl Refusals {
    pub fn new(events: Arc<EventLog>) -> Refusals {
        Refusals { events, quota: Mutex::new(Quota { left: BURST, refilled: Instant::now(), untold: 0 }) }
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

    fn tell(&self, message: String) {
        let Some(untold) = self.quota.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) else { return };
        let more = if untold > 0 { format!(" ({untold} more before this one)") } else { String::new() };
        self.events.emit("api", "Refused", message + &more);
    }
}

impl Quota {
    /// How many were left untold before this one; `None` if this one is not to be told either.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let earned = (now.duration_since(self.refilled).as_millis() / REFILL.as_millis()) as u32;
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
        let mut quota = Quota { left: BURST, refilled: start, untold: 0 };
        let told = (0..100).filter(|_| quota.take(start).is_some()).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(quota.take(start + REFILL), Some(80));
        assert_eq!(quota.take(start + REFILL), None);
        assert_eq!(quota.take(start + 1000 * REFILL), Some(1));
    }
}
