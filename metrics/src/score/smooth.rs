//! A node's figures, smoothed over time: a score must follow what lasts, not every blink.

use std::time::Duration;

use super::Load;

/// After this time a change has shown to two thirds.
const TIME: Duration = Duration::from_secs(10);

/// Grows by one snapshot at a time, however far apart they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Smooth(Option<Load>);

impl Smooth {
    /// `elapsed`: since the figures before.
    pub fn add(&mut self, newest: Load, elapsed: Duration) {
        let weight = 1.0 - (-elapsed.as_secs_f64() / TIME.as_secs_f64()).exp();
        let step = |before: f64, newest: f64| before + weight * (newest - before);
        self.0 = Some(self.0.map_or(newest, |before| Load {
            // What a machine has, and how much memory is in use, is no rate.
            cpus: newest.cpus,
            memory_bytes: newest.memory_bytes,
            memory_used_bytes: newest.memory_used_bytes,
            cpus_used: step(before.cpus_used, newest.cpus_used),
            cpu_some: step(before.cpu_some, newest.cpu_some),
            memory_full: step(before.memory_full, newest.memory_full),
            io_full: step(before.io_full, newest.io_full),
        }));
    }

    pub fn load(&self) -> Option<Load> {
        self.0
    }
}
