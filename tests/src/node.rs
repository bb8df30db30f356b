//! One machine, boot after boot. What happens between boots, to its disks and to the power is the test's to say: that is what
//! [`crate::cluster::Cluster`], which people use as well, has no words for.

mod hardware;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use controlplane::ports::API_SERVER_PORT;
use serde_json::Value;
use tempfile::TempDir;
use testbed::nbd::NbdDisk;
use testbed::{Accelerator, Forward, Lifetime, Machine, NAME_SERVER, free_port};

use crate::until::until;
use crate::{place, program};
pub use hardware::Hardware;

/// No test needs a machine for longer.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// From power-on to an answer of the machine API.
const BOOT: Duration = Duration::from_secs(180);
/// More than any image: a machine grows into its disk.
const DISK_BYTES: u64 = 20 << 30;

/// A machine and the configs of its cluster.
#[derive(Debug)]
pub struct Node {
    folder: TempDir,
    image: PathBuf,
    forwards: Vec<Forward>,
    machine: Option<Machine>,
    boots: usize,
    /// What it has at the next power-on besides the disk.
    pub hardware: Hardware,
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
    pub fn new(profile: &str) -> anyhow::Result<Node> {
        Node::with(profile, &[])
    }

    /// The same, with patches to its machine config, in YAML.
    pub fn with(profile: &str, patches: &[&str]) -> anyhow::Result<Node> {
        let folder = tempfile::Builder::new().prefix("corten-node-").tempdir()?;
        let forwards = [api::PORT, API_SERVER_PORT].iter().map(|guest| Ok(Forward { host: free_port()?, guest: *guest }));
        let forwards = forwards.collect::<anyhow::Result<_>>()?;
        let hardware = Hardware::of(profile, folder.path())?;
        let node = Node { folder, image: place::image(profile), forwards, machine: None, boots: 0, hardware };
        let endpoint = format!("https://127.0.0.1:{}", node.port(API_SERVER_PORT)?);
        let output = node.folder.path().to_str().context("path of a temporary directory")?;
        let own = format!("{{ machine: {{ hostname: cp-1, network: {{ nameservers: [{NAME_SERVER}] }} }} }}");
        let address = node.address()?;
        let mut arguments = vec!["gen", "config", "one", &endpoint, "--output", output, "--allow-scheduling-on-control-planes"];
        arguments.extend(["--control-planes", &address]);
        for patch in std::iter::once(own.as_str()).chain(patches.iter().copied()) {
            arguments.extend(["--patch-control-plane", patch]);
        }
        program::printed(Command::new(place::machinectl()).arg("--quiet").args(&arguments))?;
        Ok(node)
    }

    /// The same machine from another image's folder.
    pub fn from_image(mut self, image: impl Into<PathBuf>) -> Node {
        self.image = image.into();
        self
    }

    /// The disk that it boots from; what was not flushed can be lost.
    pub fn disk(&self) -> anyhow::Result<NbdDisk> {
        Ok(NbdDisk::over(&self.image().join("disk.raw"), DISK_BYTES)?)
    }

    /// The folder of its image.
    pub fn image(&self) -> PathBuf {
        self.image.clone()
    }

    /// A file that lasts as long as the machine does, for media and further disks.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The first boot from a disk of its own, until it has its config; the disk.
    pub fn configured(&mut self) -> anyhow::Result<NbdDisk> {
        let disk = self.disk()?;
        self.boot(&disk)?;
        let up = self.up()?;
        self.apply(&up)?;
        Ok(disk)
    }

    /// Turns the power on, with this disk before all others.
    pub fn boot(&mut self, disk: &NbdDisk) -> anyhow::Result<()> {
        ensure!(self.machine.is_none(), "the machine is on");
        let mut spec = self.hardware.spec(disk);
        spec.forwards.clone_from(&self.forwards);
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

    /// What tells this boot of the machine from all others.
    pub fn boot_id(&self, up: &Up) -> anyhow::Result<String> {
        let answers = self.json(up, &["version", "--timeout", "5s"])?;
        answers[0]["bootId"].as_str().map(str::to_owned).with_context(|| format!("no boot id in {answers}"))
    }

    /// Waits until the machine answers its administrator in another boot than the one of that id, and gives the new one.
    pub fn rebooted(&self, before: &str, deadline: Duration) -> anyhow::Result<String> {
        let machine = self.machine()?;
        let mut trouble = String::new();
        let look = || match self.boot_id(&Up::Configured) {
            Ok(id) if id != before => Ok(Some(id)),
            Ok(_) => Ok(None),
            Err(error) => {
                trouble = format!("{error:#}");
                Ok(None)
            }
        };
        machine.wait("another boot", deadline, look).with_context(|| trouble)
    }

    /// The slots that this machine booted since power-on, in their order, as the console tells: also those of boots that got no further.
    pub fn slots_booted(&self) -> anyhow::Result<Vec<char>> {
        let lines = self.machine()?.console().lines_with(" corten: slot ")?;
        Ok(lines.iter().filter_map(|line| line.split(" corten: slot ").nth(1)?.chars().next()).collect())
    }

    /// All objects of a kind, as `machinectl get` shows them.
    pub fn resources(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        match self.json(&Up::Configured, &["get", kind, "--timeout", "20s"])? {
            Value::Array(objects) => Ok(objects),
            other => anyhow::bail!("machinectl get {kind}: expected a list of objects, got {other}"),
        }
    }

    /// One object.
    pub fn resource(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        self.json(&Up::Configured, &["get", kind, name, "--timeout", "20s"])
    }

    /// What machinectl prints as JSON.
    pub fn json(&self, up: &Up, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.ask(up, &[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("machinectl {arguments:?} printed {text:?}"))
    }

    /// As whom the machine API takes calls now.
    pub fn answer(&self) -> anyhow::Result<Up> {
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
        program::printed(&mut self.command(up, &[&["--quiet"], arguments].concat())?)
    }

    /// Runs machinectl against the machine as somebody who has no certificate and asks for none.
    pub fn stranger(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let address = self.address()?;
        program::printed(Command::new(place::machinectl()).args(["--quiet", "--insecure", "--nodes", &address]).args(arguments))
    }

    /// The same, for a test that does more with it than wait for its end.
    pub fn command(&self, up: &Up, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(place::machinectl());
        match up {
            Up::Maintenance { fingerprint } => command.arg("--nodes").arg(self.address()?).arg("--fingerprint").arg(fingerprint),
            Up::Configured => command.arg("--config").arg(self.folder.path().join("client.yaml")),
        };
        command.args(arguments);
        Ok(command)
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
}
