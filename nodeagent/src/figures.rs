//! Figures that tests measure in the agent's own code: `make bench` runs those tests, and reads each figure off a line of its own.

use std::time::Duration;

use serde_json::{Value, json};

/// As the kernel numbers it: sums of this say how long, and ratios of two how much longer.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub fn rounds() -> usize {
    std::env::var("CORTEN_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Units and goals are those of the benchmark's own figures (`tests/src/bin/bench/figure.rs`).
pub fn figure(name: &str, unit: &str, ours: &[f64], peer: Option<&[f64]>, goal: Value) {
    println!("figure {}", json!({ "name": name, "unit": unit, "ours": ours, "peer": peer, "goal": goal }));
}

/// The value that this share of them is not above.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
