//! Answers that hold for a while.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::time::Instant;

const MOST_KEPT: usize = 2048;

/// Answers, and until when each holds.
#[derive(Debug)]
pub struct Kept<K, V>(HashMap<K, (V, Instant)>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Kept<K, V> {
        Kept(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    pub fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.0.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Where there are too many, those that are out of date go, and should that not do, all.
    pub fn put(&mut self, key: K, value: V, until: Instant) {
        if self.0.len() >= MOST_KEPT {
            let now = Instant::now();
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MOST_KEPT {
            self.0.clear();
        }
        self.0.insert(key, (value, until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_are_kept_for_a_while_and_never_too_many() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        let until = now + Duration::from_secs(600);
        kept.put(0, true, until);
        assert_eq!((kept.get(&0, now), kept.get(&0, until), kept.get(&1, now)), (Some(true), None, None));
        for key in 0..10 * MOST_KEPT {
            kept.put(key, true, until);
            assert!(kept.0.len() <= MOST_KEPT && kept.get(&key, now) == Some(true));
        }
    }
}
