//! How often this machine said that it answers: one that is not heard again and again must not write to the cluster each time.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So often within so long; the others' marks, one before each, are as many.
const MOST: usize = 4;
const WITHIN: Duration = Duration::from_secs(60);

/// When that was, newest first.
#[derive(Debug, Default)]
pub struct Returns(VecDeque<Instant>);

impl Returns {
    pub fn add(&mut self, now: Instant) {
        self.0.truncate(MOST - 1);
        self.0.push_front(now);
    }

    /// Whether there may be one more.
    pub fn are_few(&self, now: Instant) -> bool {
        self.0.len() < MOST || self.0.back().is_none_or(|oldest| now - *oldest >= WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_a_minute() {
        let mut returns = Returns::default();
        let mut written = Vec::new();
        for second in 0..180 {
            if returns.are_few(Instant::now()) {
                returns.add(Instant::now());
                written.push(second);
            }
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(written, [0, 1, 2, 3, 60, 61, 62, 63, 120, 121, 122, 123]);
    }
}
