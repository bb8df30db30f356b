//! The last result of each benchmark, in build/bench/results.json.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::figure::Outcome;
use ::tests::place;

/// Where everything that the benchmarks make is put.
pub fn directory() -> PathBuf {
    place::repository().join("build/bench")
}

/// Replaces the benchmark's last result; those of others stay.
pub fn keep(name: &str, outcome: &Outcome) -> anyhow::Result<()> {
    let path = directory().join("results.json");
    let mut results: Map<String, Value> = match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is no result of ours; delete it", path.display()))?,
        Err(_) => Map::new(),
    };
    let mut result = serde_json::to_value(outcome)?;
    result["measuredAt"] = OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?.into();
    result["commit"] = commit().into();
    result["host"] = host();
    results.insert(name.to_owned(), result);
    fs::create_dir_all(directory())?;
    let partial = path.with_extension("partial");
    fs::write(&partial, serde_json::to_string_pretty(&results)? + "\n")?;
    fs::rename(&partial, &path).with_context(|| format!("writing {}", path.display()))
}

/// The commit that is checked out; empty outside of a repository.
fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(place::repository()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn host() -> Value {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).to_owned()
    };
    json!({
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": field("/proc/cpuinfo", "model name"),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": field("/proc/sys/kernel/osrelease", ""),
    })
}
