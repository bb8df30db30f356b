//! cAdvisor over the same cgroups, as a process of its own. It wants cgroup v2 at /sys/fs/cgroup; where this host has it elsewhere, it gets a mount
//! namespace in which it is there.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::body::Bytes;
use tokio::runtime::Runtime;

use crate::cgroups;
use crate::http::Client;

/// What it is asked for at the most; it takes up to twice as long between two samples of a cgroup.
const INTERVAL: &str = "1s";
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const WINDOW: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(200);

pub struct Cadvisor {
    child: Child,
    address: SocketAddr,
    runtime: Runtime,
}

impl Cadvisor {
    /// Once it has a sample of each cgroup of the tree.
    pub fn start(program: &Path, tree: &Path, cgroups: i64) -> anyhow::Result<Cadvisor> {
        ensure!(program.is_file(), "{}: image-build components --only cadvisor builds it", program.display());
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mount = cgroups::mount()?;
        let below = Path::new("/").join(tree.strip_prefix(&mount)?);
        let script = "mount --make-rprivate / && mount --rbind \"$0\" /sys/fs/cgroup && exec \"$@\"";
        let child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .args([mount.as_os_str(), program.as_os_str()])
            .args(["-listen", &address.to_string(), "-interval", INTERVAL, "-cgroup"])
            .arg(below)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting cAdvisor: this needs root and util-linux")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut started = Cadvisor { child, address, runtime };
        let end = Instant::now() + STARTS_WITHIN;
        loop {
            if started.samples().is_ok_and(|samples| samples >= 2 * cgroups) {
                return Ok(started);
            }
            ensure!(started.child.try_wait()?.is_none(), "cAdvisor ended: {}", started.child.wait()?);
            ensure!(Instant::now() < end, "cAdvisor has not seen {cgroups} cgroups within {STARTS_WITHIN:?}");
            std::thread::sleep(LOOK);
        }
    }

    /// CPU time of one sample of one cgroup, in microseconds.
    pub fn each(&mut self) -> anyhow::Result<f64> {
        let (samples, time) = (self.samples()?, self.cpu_time()?);
        std::thread::sleep(WINDOW);
        let (samples, time) = (self.samples()? - samples, self.cpu_time()? - time);
        ensure!(samples > 0, "cAdvisor took no sample in {WINDOW:?}");
        Ok(time.as_secs_f64() * 1e6 / samples as f64)
    }

    /// How long each of so many scrapes took.
    pub fn scrapes(&mut self, count: usize) -> anyhow::Result<Vec<Duration>> {
        let address = self.address;
        self.runtime.block_on(async {
            let mut client = Client::connect(address).await?;
            let mut took = Vec::new();
            for _ in 0..count {
                let (text, lasted) = client.ask("GET", "/metrics", Bytes::new()).await?;
                ensure!(text.len() > 10_000, "cAdvisor tells of nothing");
                took.push(lasted);
            }
            Ok(took)
        })
    }

    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        super::resident_mib(self.child.id())
    }

    fn samples(&mut self) -> anyhow::Result<i64> {
        let address = self.address;
        let (text, _) = self.runtime.block_on(async { Client::connect(address).await?.ask("GET", "/samples", Bytes::new()).await })?;
        Ok(std::str::from_utf8(&text)?.trim().parse()?)
    }

    /// utime and stime of the whole process.
    fn cpu_time(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path)?;
        let fields: Vec<&str> = text.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok()).with_context(|| format!("{path}: {text}"));
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64((ticks(11)? + ticks(12)?) as f64 / per_second as f64))
    }
}

impl Drop for Cadvisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
