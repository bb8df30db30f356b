//! Figures in few letters.

use api::v1::{GetHealthResponse, PressureShares};

/// As kubectl writes it: thousandths of a CPU.
pub fn cpus(cpus: Option<f64>) -> String {
    cpus.map(|cpus| format!("{:.0}m", cpus * 1000.0)).unwrap_or_default()
}

pub fn bytes(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return String::new() };
    let units = [("Gi", 1u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    // Three digits at least, so that neighbours can be told apart.
    match units.into_iter().find(|(unit, size)| bytes >= if *unit == "Gi" { 10 * size } else { *size }) {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}"),
    }
}

pub fn percent(share: Option<f64>) -> String {
    share.map(|share| format!("{:.1}%", share * 100.0)).unwrap_or_default()
}

/// The longest wait for any of CPU, memory and I/O; none where none is known.
pub fn longest(pressure: &PressureShares) -> Option<f64> {
    let PressureShares { cpu_some, memory_some, io_some, .. } = *pressure;
    [cpu_some, memory_some, io_some].into_iter().flatten().reduce(f64::max)
}

/// `3 of 9 checks pass; etcd: not started`
pub fn summary(report: &GetHealthResponse) -> String {
    let passed = report.checks.iter().filter(|check| check.passed).count();
    let first = report.checks.iter().find(|check| !check.passed).map(|check| format!("; {}: {}", check.name, check.message));
    format!("{passed} of {} checks pass{}", report.checks.len(), first.unwrap_or_default())
}
