//! Waiting for a condition: never longer than a deadline, and with the last reason when it passes.

use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a condition is looked at: each look is a program that runs for tens of milliseconds.
pub const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Looks until `look` succeeds, and gives its answer; after the deadline, its last error.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match look() {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not within {} s", deadline.as_secs()));
            }
            Err(_) => std::thread::sleep(BETWEEN_LOOKS),
        }
    }
}
