//! What it costs to read what cgroups use: our collector beside cAdvisor, by turns, over the same cgroups of this host. Ours keeps files open and
//! follows the tree; what that alone saves is shown by walking the tree and opening every file anew.

mod cadvisor;
mod scrape;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::metrics::Collector;
use ::metrics::pace::Pace;
use ::tests::place;
use anyhow::Context;
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::cgroups::Tree;
use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::samples::{Samples, quantile};
use cadvisor::Cadvisor;

/// Containers, each in a pod of its own.
const COUNTS: [usize; 3] = [30, 100, 300];
const SWEEPS: usize = 20;
const SCRAPES: usize = 100;
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

#[derive(Debug, Args)]
pub struct Peer {
    /// cAdvisor's program [default: build/components/cadvisor/bin/cadvisor]
    #[arg(long)]
    cadvisor: Option<PathBuf>,
}

pub fn measure(rounds: usize, peer: &Peer) -> anyhow::Result<Outcome> {
    let program = peer.cadvisor.clone().unwrap_or_else(|| place::repository().join("build/components/cadvisor/bin/cadvisor"));
    let mut outcome = Outcome::default();
    let mut files = Vec::new();
    for count in COUNTS {
        let tree = Tree::make(count)?;
        // Containers, pods, kubepods, besteffort and the top.
        let cgroups = 2 * count + 3;
        files = FILES.into_iter().filter(|file| tree.container(0).join(file).exists()).collect();
        let before = resident_mib(std::process::id())?;
        let mut collector = Collector::new(tree.path(), Path::new("/proc"), Pace::default()).context("starting the collector")?;
        collector.sweep().context("sweeping")?;
        let grown = (resident_mib(std::process::id())? - before).max(0.0);
        let mut other = Cadvisor::start(&program, tree.path(), cgroups as i64)?;
        let (mut ours, mut theirs, mut opened) = (Samples::default(), Samples::default(), Samples::default());
        let (mut our_scrapes, mut their_scrapes) = (Samples::default(), Samples::default());
        for _ in 0..rounds.max(3) {
            theirs.push(other.each()?);
            ours.push(each(cgroups, || collector.sweep().map(drop).context("sweeping"))?);
            opened.push(each(cgroups, || walk(tree.path(), &files))?);
            let snapshot = Arc::new(collector.sweep()?);
            their_scrapes.push(p99(other.scrapes(SCRAPES)?));
            our_scrapes.push(p99(scrape::scrapes(&snapshot, SCRAPES)?));
        }
        let name = |what: &str| format!("{what}, {count} containers");
        let beside = |what, unit, ours, theirs, goal| Figure::beside(name(what), unit, ours, theirs, goal);
        let goal = Goal::RatioAtMost;
        outcome.figures.push(beside("CPU of a sample beside cAdvisor", Unit::Microseconds, ours.clone(), theirs, goal(0.05)));
        outcome.figures.push(beside("CPU of a sample beside files opened anew", Unit::Microseconds, ours, opened, goal(0.5)));
        outcome.figures.push(beside("scrape p99", Unit::Microseconds, our_scrapes, their_scrapes, goal(0.1)));
        let (grown, resident) = (Samples::exact(grown), Samples::exact(other.resident_mib()?));
        outcome.figures.push(beside("memory", Unit::Mebibytes, grown.clone(), resident, Goal::None));
        if count == COUNTS[COUNTS.len() - 1] {
            outcome.figures.push(Figure::alone(name("memory of the collector"), Unit::Mebibytes, grown, Goal::AtMost(GOAL_MIB)));
        }
    }
    outcome.notes.push(format!("this host's cgroup v2 has, of what cAdvisor reads: {}", files.join(", ")));
    outcome.notes.push(
        "a sample is of one cgroup, a pod's or a container's; cAdvisor's is utime and stime of its process by the samples that it counts"
            .to_owned(),
    );
    outcome.notes.push("memory is what the collector adds to a process, and all of cAdvisor's".to_owned());
    outcome.details = json!({ "sweeps": SWEEPS, "scrapes": SCRAPES, "files": files });
    Ok(outcome)
}

/// CPU time of this thread for one cgroup, in microseconds.
fn each(cgroups: usize, mut sweep: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    sweep()?;
    let before = thread_time()?;
    for _ in 0..SWEEPS {
        sweep()?;
    }
    Ok((thread_time()? - before).as_secs_f64() * 1e6 / (SWEEPS * cgroups) as f64)
}

fn thread_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

/// In microseconds.
fn p99(took: Vec<Duration>) -> f64 {
    let mut took: Vec<f64> = took.into_iter().map(|lasted| lasted.as_secs_f64() * 1e6).collect();
    took.sort_by(f64::total_cmp);
    quantile(&took, 0.99)
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

fn resident_mib(process: u32) -> anyhow::Result<f64> {
    let statm = fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages: u64 = statm.split(' ').nth(1).context("no resident pages in statm")?.parse()?;
    Ok((pages * rustix::param::page_size() as u64) as f64 / 1_048_576.0)
}
