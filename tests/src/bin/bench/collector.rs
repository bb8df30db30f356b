//! What it costs to read what cgroups use: files kept open and a tree that is followed, beside the tree walked and every file opened anew, as
//! cAdvisor does it. In one process, by turns, over the same cgroups of this host. cAdvisor itself needs a Go build and is not measured here.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ::metrics::open_metrics::{self, Format, Text};
use ::metrics::pace::Pace;
use ::metrics::{Collector, Names};
use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::cgroups::Tree;
use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::Samples;

/// Containers, each in a pod of its own.
const COUNTS: [usize; 3] = [30, 100, 300];
const SWEEPS: usize = 20;
const GOAL_MIB: f64 = 8.0;

/// What cAdvisor opens of each cgroup at each of its ticks, where it is there (opencontainers/cgroups v0.0.6, fs2).
const FILES: [&str; 17] = [
    "pids.current",
    "pids.max",
    "memory.stat",
    "memory.current",
    "memory.max",
    "memory.peak",
    "memory.swap.current",
    "memory.swap.max",
    "io.stat",
    "cpu.stat",
    "cpu.pressure",
    "memory.pressure",
    "io.pressure",
    "hugetlb.2MB.rsvd.current",
    "hugetlb.2MB.events",
    "misc.current",
    "memory.events",
];

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut files = Vec::new();
    for count in COUNTS {
        let tree = Tree::make(count)?;
        files = FILES.into_iter().filter(|file| tree.container(0).join(file).exists()).collect();
        let resident = resident_mib()?;
        let mut collector = Collector::new(tree.path(), Path::new("/proc"), Pace::default()).context("starting the collector")?;
        let (mut kept, mut opened, mut rendered) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..rounds.max(3) {
            kept.push(each(count, || collector.sweep().map(drop).context("sweeping"))?);
            opened.push(each(count, || walk(tree.path(), &files))?);
            let snapshot = collector.sweep()?;
            rendered.push(each(count, || {
                let mut text = Text::new(Format::OpenMetrics);
                open_metrics::render(&snapshot, &Names::default(), &mut text);
                anyhow::ensure!(text.finish().len() > 1000, "no text");
                Ok(())
            })?);
        }
        let name = format!("CPU a container and sweep, {count} containers");
        outcome.figures.push(Figure::beside(name, Unit::Microseconds, kept, opened, Goal::RatioAtMost(0.5)));
        outcome.figures.push(Figure::alone("  of a scrape, rendering", Unit::Microseconds, rendered, Goal::None));
        if count == COUNTS[COUNTS.len() - 1] {
            let grown = Samples::exact((resident_mib()? - resident).max(0.0));
            outcome.figures.push(Figure::alone(
                format!("memory of the collector, {count} containers"),
                Unit::Mebibytes,
                grown,
                Goal::AtMost(GOAL_MIB),
            ));
        }
    }
    outcome.notes.push(format!("this host's cgroup v2 has, of what cAdvisor reads: {}", files.join(", ")));
    outcome.notes.push("the peer opens and reads the same files, and does not parse them".to_owned());
    outcome.details = json!({ "sweeps": SWEEPS, "files": files });
    Ok(outcome)
}

/// CPU time of this thread for one container, in microseconds.
fn each(count: usize, mut sweep: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    sweep()?;
    let before = thread_time()?;
    for _ in 0..SWEEPS {
        sweep()?;
    }
    Ok((thread_time()? - before).as_secs_f64() * 1e6 / (SWEEPS * count) as f64)
}

fn thread_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

fn walk(directory: &Path, files: &[&str]) -> anyhow::Result<()> {
    for file in files {
        // The top has not all of them.
        std::hint::black_box(fs::read(directory.join(file)).unwrap_or_default());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn resident_mib() -> anyhow::Result<f64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("no resident pages in /proc/self/statm")?.parse()?;
    Ok((pages * rustix::param::page_size() as u64) as f64 / 1_048_576.0)
}
