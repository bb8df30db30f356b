//! When what was refused is tried again: at intervals that double.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

pub const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Retries(BTreeMap<String, Retry>);

#[derive(Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retries {
    pub fn failed(&mut self, id: &str, now: Instant) {
        let pause = self.0.get(id).map_or(FIRST, |retry| (retry.pause * 2).min(LONGEST));
        self.0.insert(id.to_owned(), Retry { at: now + pause, pause });
    }

    /// It worked, or it is something else now.
    pub fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }

    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|id, _| wanted(id));
    }

    /// Whether nothing speaks against a try.
    pub fn is_due(&self, id: &str, now: Instant) -> bool {
        self.0.get(id).is_none_or(|retry| retry.at <= now)
    }

    /// How long until one is due; none where there is nothing to try again.
    pub fn next(&self, now: Instant) -> Option<Duration> {
        self.0.values().map(|retry| retry.at.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double_up_to_the_longest_and_each_has_its_own() {
        let mut retries = Retries::default();
        let mut now = Instant::now();
        let mut waited = Vec::new();
        assert_eq!(retries.next(now), None);
        for _ in 0..9 {
            retries.failed("a", now);
            assert!(!retries.is_due("a", now) && retries.is_due("b", now));
            let wait = retries.next(now).unwrap();
            waited.push(wait.as_millis());
            now += wait;
            assert!(retries.is_due("a", now));
        }
        assert_eq!(waited, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        retries.forget("a");
        retries.failed("a", now);
        assert_eq!(retries.next(now), Some(FIRST));
        retries.keep(|id| id != "a");
        assert_eq!(retries.next(now), None);
    }
}
