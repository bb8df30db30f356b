//! What the overlay costs, beside others that do the same, in namespaces of this host: `make bench T=overlay` runs these and shows a table.
//! Each figure is printed on a line of its own, as the benchmark reads it.

mod carrying;
mod cluster;
mod programming;

use std::time::Duration;

use serde_json::{Value, json};

/// As the kernel numbers it: sums of this say how long, and ratios of two how much longer.
fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn rounds() -> usize {
    std::env::var("CORTEN_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

fn figure(name: &str, unit: &str, ours: &[f64], peer: Option<&[f64]>, goal: Value) {
    println!("figure {}", json!({ "name": name, "unit": unit, "ours": ours, "peer": peer, "goal": goal }));
}

/// The value that this share of them is not above.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
