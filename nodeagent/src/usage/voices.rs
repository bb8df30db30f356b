//! When the agents of control planes were heard last, as their streams tell: by figures, and by heartbeats between those.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::v1::StreamMetricsResponse;
use tokio::time::Instant;

/// How often control planes' agents tell each other that they are there: a lost one, or a busy machine, is not yet a silence that counts.
pub const HEARTBEAT: Duration = Duration::from_millis(250);

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Voices(Arc<Mutex<BTreeMap<String, Voice>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voice {
    pub heard: Instant,
    /// Its agent sends heartbeats. One of an older image tells its figures, and nothing between them.
    pub beats: bool,
    /// Its agent does not take calls.
    pub gone: bool,
}

impl Voices {
    /// What an agent tells.
    pub fn heard(&self, node: &str, answer: &StreamMetricsResponse, now: Instant) {
        let mut voices = self.lock();
        let beats = is_heartbeat(answer) || voices.get(node).is_some_and(|voice| voice.beats);
        voices.insert(node.to_owned(), Voice { heard: now, beats, gone: false });
    }

    /// An agent that was heard, and could not be called again. It may come back with another image.
    pub fn gone(&self, node: &str) {
        if let Some(voice) = self.lock().get_mut(node) {
            (voice.gone, voice.beats) = (true, false);
        }
    }

    /// A machine that left the cluster, or is no control plane any more.
    pub fn remove(&self, node: &str) {
        self.lock().remove(node);
    }

    pub fn all(&self) -> BTreeMap<String, Voice> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Voice>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer without figures.
pub fn is_heartbeat(answer: &StreamMetricsResponse) -> bool {
    answer.at.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_heartbeats_is_known_by_the_first_and_may_come_back_without() {
        let (voices, now) = (Voices::default(), Instant::now());
        let figures = StreamMetricsResponse { at: Some(prost_types::Timestamp::default()), ..StreamMetricsResponse::default() };
        voices.gone("a");
        assert!(voices.all().is_empty(), "nobody was heard");
        voices.heard("a", &figures, now);
        assert_eq!(voices.all()["a"], Voice { heard: now, beats: false, gone: false });
        let later = now + HEARTBEAT;
        voices.heard("a", &StreamMetricsResponse::default(), later);
        voices.heard("a", &figures, later);
        assert_eq!(voices.all()["a"], Voice { heard: later, beats: true, gone: false });
        voices.gone("a");
        assert_eq!(voices.all()["a"], Voice { heard: later, beats: false, gone: true });
        voices.heard("a", &figures, later + HEARTBEAT);
        assert_eq!(voices.all()["a"], Voice { heard: later + HEARTBEAT, beats: false, gone: false });
        voices.remove("a");
        assert!(voices.all().is_empty());
    }
}
