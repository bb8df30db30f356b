//! One machine on one disk, boot after boot. What happens between boots and to the power is the test's to say: that is what
//! [`crate::cluster::Cluster`], which people use as well, has no words for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use controlplane::ports::API_SERVER_PORT;
use tempfile::TempDir;
use testbed::nbd::NbdDisk;
use testbed::{Accelerator, Boot, Firmware, Forward, Lifetime, Machine, MachineSpec, NAME_SERVER, free_port};

use crate::until::until;
use crate::{place, program};

/// No test needs a machine for longer.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// From power-on to an answer of the machine API.
const BOOT: Duration = Duration::from_secs(180);
/// More than any image: a machine grows into its disk.
const DISK_BYTES: u64 = 20 << 30;

/// What a machine is made of.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    profile: &'static str,
    forwards: Vec<Forward>,
    machine: Option<Machine>,
    boots: usize,
    /// The guest's clock at the next power-on (`2026-01-31T12:00:00`, UTC). None: the host's.
    pub clock: Option<String>,
}

/// How a machine came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// It has no config yet; the fingerprint that its console shows.
    Maintenance { fingerprint: String },
    /// It has its config, and answers its administrator.
    Configured,
}

impl Node {
    /// A machine of an image that this repository built, with the configs of its cluster.
    pub fn new(profile: &'static str) -> anyhow::Result<Node> {
        let folder = tempfile::Builder::new().prefix("corten-node-").tempdir()?;
        let forwards = [api::PORT, API_SERVER_PORT].iter().map(|guest| Ok(Forward { host: free_port()?, guest: *guest }));
        let node = Node { folder, profile, forwards: forwards.collect::<anyhow::Result<_>>()?, machine: None, boots: 0, clock: None };
        let endpoint = format!("https://127.0.0.1:{}", node.port(API_SERVER_PORT)?);
        let output = node.folder.path().to_str().context("path of a temporary directory")?;
        node.machinectl(&[
            "gen",
            "config",
            "one",
            &endpoint,
            "--output",
            output,
            "--allow-scheduling-on-control-planes",
            "--patch-control-plane",
            &format!("{{ machine: {{ hostname: cp-1, network: {{ nameservers: [{NAME_SERVER}] }} }} }}"),
            "--control-planes",
            &node.address()?,
        ])?;
        Ok(node)
    }

    /// The disk that it boots from; what was not flushed can be lost.
    pub fn disk(&self) -> anyhow::Result<NbdDisk> {
        Ok(NbdDisk::over(&self.image().join("disk.raw"), DISK_BYTES)?)
    }

    /// The folder of its image.
    pub fn image(&self) -> PathBuf {
        place::image(self.profile)
    }

    /// Turns the power on.
    pub fn boot(&mut self, disk: &NbdDisk) -> anyhow::Result<()> {
        ensure!(self.machine.is_none(), "the machine is on");
        let kubernetes = self.profile != "bare";
        let mut spec = MachineSpec::new("node", Boot::Firmware(Firmware::find()?))
            .cpus(if kubernetes { 2 } else { 1 })
            .memory_mib(if kubernetes { 3072 } else { 1024 })
            .nbd(disk);
        spec.forwards.clone_from(&self.forwards);
        spec.clock.clone_from(&self.clock);
        self.boots += 1;
        let directory = self.folder.path().join(format!("boot-{}", self.boots));
        let asked = std::env::var("CORTEN_ACCEL").ok();
        let accelerators = Accelerator::candidates(asked.as_deref(), Path::new("/dev/kvm"))?;
        self.machine = Some(Machine::start(&spec, &directory, &accelerators, Lifetime::Bounded(LIMIT))?);
        Ok(())
    }

    /// Takes the power away; what the disk then holds is for the disk to say.
    pub fn kill(&mut self) {
        if let Some(mut machine) = self.machine.take() {
            machine.kill();
        }
    }

    /// Waits until the machine API answers, to strangers or to its administrator.
    pub fn up(&self) -> anyhow::Result<Up> {
        let machine = self.machine()?;
        let mut trouble = String::new();
        let look = || match self.answer() {
            Ok(up) => Ok(Some(up)),
            Err(error) => {
                trouble = format!("{error:#}");
                Ok(None)
            }
        };
        machine.wait("the machine API", BOOT, look).with_context(|| trouble)
    }

    /// As whom the machine API takes calls now.
    fn answer(&self) -> anyhow::Result<Up> {
        let up = self.fingerprint()?.map_or(Up::Configured, |fingerprint| Up::Maintenance { fingerprint });
        self.ask(&up, &["version", "--timeout", "5s"])?;
        Ok(up)
    }

    /// What the console shows since power-on, in maintenance.
    pub fn fingerprint(&self) -> anyhow::Result<Option<String>> {
        let line = self.machine()?.console().line_with("fingerprint sha256:")?.unwrap_or_default();
        Ok(line.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned))
    }

    /// Runs machinectl against the machine: as a stranger in maintenance, as its administrator otherwise.
    pub fn ask(&self, up: &Up, arguments: &[&str]) -> anyhow::Result<String> {
        let client = self.folder.path().join("client.yaml").display().to_string();
        match up {
            Up::Maintenance { fingerprint } => {
                self.machinectl(&[&["--nodes", &self.address()?, "--fingerprint", fingerprint], arguments].concat())
            }
            Up::Configured => self.machinectl(&[&["--config", &client], arguments].concat()),
        }
    }

    /// Gives the machine its config, whether it has it already or not, and waits until it has taken it.
    pub fn apply(&self, up: &Up) -> anyhow::Result<()> {
        self.ask(up, &["apply", "-f", &self.config()])?;
        until("the machine with its config", BOOT, || self.ask(&Up::Configured, &["version", "--timeout", "5s"])).map(drop)
    }

    /// Makes the cluster, whether it was begun already or not, and waits until it is healthy.
    pub fn bootstrap(&self) -> anyhow::Result<()> {
        until("bootstrap", BOOT, || self.ask(&Up::Configured, &["bootstrap", "--timeout", "20s"]))?;
        self.ask(&Up::Configured, &["health", "--wait", "8m", "--timeout", "10m"]).map(drop)
    }

    /// The path of its config.
    pub fn config(&self) -> String {
        self.folder.path().join("controlplane.yaml").display().to_string()
    }

    pub fn machine(&self) -> anyhow::Result<&Machine> {
        self.machine.as_ref().context("the machine is off")
    }

    fn port(&self, guest: u16) -> anyhow::Result<u16> {
        self.forwards.iter().find(|forward| forward.guest == guest).map(|forward| forward.host).context("a forwarded port")
    }

    /// Its machine API, from here.
    fn address(&self) -> anyhow::Result<String> {
        Ok(format!("127.0.0.1:{}", self.port(api::PORT)?))
    }

    fn machinectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        program::printed(Command::new(place::machinectl()).arg("--quiet").args(arguments))
    }
}
