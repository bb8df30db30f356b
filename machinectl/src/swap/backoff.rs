//! Waits between tries over a connection that breaks, until nothing has been gained for too long.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    /// When something was gained last.
    gained: Instant,
    patience: Duration,
}

impl Backoff {
    /// `patience`: how long to go on without gaining anything.
    pub fn new(patience: Duration) -> Backoff {
        Backoff { next: FIRST, gained: Instant::now(), patience }
    }

    /// It went on: patience begins anew.
    pub fn gained(&mut self) {
        *self = Backoff::new(self.patience);
    }

    /// Waits before the next try; false when patience is at its end.
    pub async fn wait(&mut self) -> bool {
        if self.gained.elapsed() + self.next > self.patience {
            return false;
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}
