//! The simulator's queue beside this host's kernel: threads that compute without end and threads that sleep and wake, in a cgroup of their own, and
//! what the kernel tells of its pressure.
//!
//! They run ahead of everything else here (nice -20), since what else runs makes them wait as well.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use ::simulator::queue::{Demand, serve};
use anyhow::{Context, ensure};
use clap::Args;
use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of one burst, on average: as long as a web server takes for something.
const BURST: Duration = Duration::from_millis(10);
const LASTS: Duration = Duration::from_secs(6);

/// One load, as this program's own arguments: a process of its own goes into the cgroup.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Load {
    /// Be the load of a measurement, and print the pressure that it had
    #[arg(long, hide = true)]
    load: bool,
    #[arg(long, hide = true, default_value_t = 1)]
    cpus: u32,
    #[arg(long, hide = true, default_value_t = 0)]
    busy: u32,
    #[arg(long, hide = true, default_value_t = 0)]
    bursty: u32,
    #[arg(long, hide = true, default_value_t = 0.0)]
    offered: f64,
}

pub struct Check {
    /// Of `cpu some`, in percent of time.
    pub largest: f64,
    pub notes: Vec<String>,
}

const fn load(cpus: u32, busy: u32, bursty: u32, offered: f64) -> Load {
    Load { load: true, cpus, busy, bursty, offered }
}

const LOADS: [Load; 9] = [
    load(1, 1, 0, 0.0),
    load(1, 2, 0, 0.0),
    load(1, 0, 4, 0.4),
    load(1, 0, 8, 0.8),
    load(1, 1, 4, 0.3),
    load(2, 3, 0, 0.0),
    load(2, 0, 8, 1.0),
    load(2, 0, 16, 1.6),
    load(2, 1, 8, 0.8),
];

pub fn check() -> anyhow::Result<Check> {
    let mut check = Check { largest: 0.0, notes: Vec::new() };
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    for load in LOADS.into_iter().filter(|load| load.cpus as usize <= here) {
        let predicted = serve(load.cpus, Demand { busy: load.busy, bursty: load.bursty, offered: load.offered }).some * 100.0;
        let measured = measure(load)?;
        check.largest = check.largest.max((predicted - measured).abs());
        check.notes.push(format!(
            "kernel: {} CPU, {} busy threads, {:2} that wake and use {:.1} CPUs: cpu some {measured:5.1} %, the model {predicted:5.1} %",
            load.cpus, load.busy, load.bursty, load.offered
        ));
    }
    Ok(check)
}

fn measure(load: Load) -> anyhow::Result<f64> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["--load", "--cpus", &load.cpus.to_string(), "--busy", &load.busy.to_string()]);
    command.args(["--bursty", &load.bursty.to_string(), "--offered", &load.offered.to_string()]);
    let output = command.output().context("starting the load")?;
    ensure!(output.status.success(), "the load ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().parse().context("no number from the load")
}

/// Whether this process is to be a load; it has been one then.
pub fn act(load: Load) -> anyhow::Result<bool> {
    if !load.load {
        return Ok(false);
    }
    let group = Group::make()?;
    setpriority_process(None, -20).context("running ahead of others: this needs root")?;
    let mut cpus = CpuSet::new();
    (0..load.cpus as usize).for_each(|cpu| cpus.set(cpu));
    sched_setaffinity(None, &cpus).context("keeping to some CPUs")?;
    fs::write(group.0.join("cgroup.procs"), Pid::as_raw(Some(rustix::process::getpid())).to_string()).context("entering the cgroup")?;
    let end = Instant::now() + LASTS + Duration::from_millis(500);
    let threads: Vec<_> = (0..load.busy)
        .map(|_| std::thread::spawn(move || compute_until(end)))
        .chain((0..load.bursty).map(|number| {
            let duty = load.offered / f64::from(load.bursty);
            std::thread::spawn(move || wake_until(end, duty, u64::from(number) + 1))
        }))
        .collect();
    // The first moments, in which threads are made, do not count.
    std::thread::sleep(Duration::from_millis(250));
    let (began, before) = (Instant::now(), group.some()?);
    std::thread::sleep(LASTS);
    let (some, lasted) = (group.some()? - before, began.elapsed());
    threads.into_iter().for_each(|thread| drop(thread.join()));
    // Nobody may be in a cgroup that is to go.
    fs::write(group.0.with_file_name("cgroup.procs"), Pid::as_raw(Some(rustix::process::getpid())).to_string())
        .context("leaving the cgroup")?;
    println!("{:.2}", 100.0 * some.as_secs_f64() / lasted.as_secs_f64());
    Ok(true)
}

fn compute_until(end: Instant) {
    let mut value = 1u64;
    while Instant::now() < end {
        (0..1000u64).for_each(|step| value = std::hint::black_box(value.wrapping_mul(31).wrapping_add(step)));
    }
}

/// Bursts and pauses of exponential length, so that the thread would compute this share of its time if it never waited.
fn wake_until(end: Instant, duty: f64, seed: u64) {
    // Small seeds would begin with small numbers, and so with very long pauses.
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut exponential = |mean: f64| {
        // Xorshift: what is drawn matters as little as can be.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        -mean * (((random >> 11) as f64 + 1.0) / (1u64 << 53) as f64).ln()
    };
    let burst = BURST.as_secs_f64();
    while Instant::now() < end {
        let pause = exponential(burst * (1.0 - duty) / duty);
        std::thread::sleep(Duration::from_secs_f64(pause));
        let until = own_time() + Duration::from_secs_f64(exponential(burst));
        while own_time() < until {
            std::hint::spin_loop();
        }
    }
}

fn own_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// A cgroup that goes with the value.
struct Group(PathBuf);

impl Group {
    fn make() -> anyhow::Result<Group> {
        let path = crate::cgroups::mount()?.join(format!("corten-load-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}: this needs root", path.display()))?;
        Ok(Group(path))
    }

    fn some(&self) -> anyhow::Result<Duration> {
        let path = self.0.join("cpu.pressure");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}: the kernel needs psi=1", path.display()))?;
        let total = text.lines().find(|line| line.starts_with("some ")).and_then(|line| line.rsplit_once("total="));
        Ok(Duration::from_micros(total.context("no total in cpu.pressure")?.1.parse()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
