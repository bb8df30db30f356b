//! A local cluster made with `machinectl cluster create`; its machines end with the value.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use crate::place;
use crate::program::{printed, text};

/// Stands in an error where the machine's kernel panicked.
pub const KERNEL_PANIC: &str = "(the kernel panicked)";

/// A cluster of one control plane, if no more are asked for.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    /// machinectl's folder of clusters; a temporary one is removed with the value.
    state: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    keep: bool,
}

/// What a cluster is made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub name: String,
    /// Image's folder, where it is not the one for tests.
    pub image: Option<PathBuf>,
    /// Patches to all configs, in YAML.
    pub patches: Vec<String>,
    /// Further arguments of `machinectl cluster create`.
    pub extra: Vec<String>,
    /// Lets the machines reach the network.
    pub online: bool,
    /// Keep the cluster, in machinectl's own folder, when the value ends.
    pub keep: bool,
}

impl Cluster {
    /// Creates the cluster and waits until it is healthy; machinectl shows the progress.
    pub fn create(options: &Options) -> anyhow::Result<Cluster> {
        let temporary = if options.keep { None } else { Some(tempfile::tempdir()?) };
        let state = temporary.as_ref().map_or_else(|| place::repository().join("build/clusters"), |directory| directory.path().to_owned());
        let cluster = Cluster { name: options.name.clone(), state, _temporary: temporary, keep: options.keep };
        let mut command = cluster.machinectl_command();
        command.args(["cluster", "create", &options.name, "--allow-scheduling-on-control-planes"]);
        let image = options.image.clone().unwrap_or_else(|| place::image("controlplane"));
        command.arg("--image").arg(image.join("disk.qcow2"));
        if !options.online {
            command.arg("--isolated");
        }
        for patch in &options.patches {
            command.args(["--patch", patch]);
        }
        command.args(&options.extra);
        let status = command.status().with_context(|| format!("starting {} (make build)", place::machinectl().display()))?;
        let panicked = if cluster.kernel_panicked() { KERNEL_PANIC } else { "" };
        anyhow::ensure!(status.success(), "machinectl cluster create: {status} {panicked}");
        Ok(cluster)
    }

    /// Whether a machine's kernel has panicked since the machine was started.
    pub fn kernel_panicked(&self) -> bool {
        let panicked = |log: PathBuf| std::fs::read(log).is_ok_and(|log| String::from_utf8_lossy(&log).contains("Kernel panic"));
        self.consoles().into_iter().any(panicked)
    }

    /// The machines' consoles, as far as they were started.
    fn consoles(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory()).into_iter().flatten().flatten();
        let mut consoles: Vec<PathBuf> = entries.map(|entry| entry.path().join("console.log")).filter(|log| log.exists()).collect();
        consoles.sort();
        consoles
    }

    /// A cluster that runs already, by its folder; it goes on running.
    pub fn attach(directory: &Path) -> anyhow::Result<Cluster> {
        let name = directory.file_name().and_then(|name| name.to_str()).context("a cluster's folder ends in its name")?;
        let state = directory.parent().context("a cluster's folder has a parent")?;
        Ok(Cluster { name: name.to_owned(), state: state.to_owned(), _temporary: None, keep: true })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's own folder: configs, keys, kubeconfig, and a folder for each machine.
    pub fn directory(&self) -> PathBuf {
        self.state.join(&self.name)
    }

    /// A machine's folder: its disks, console and sockets, its config.
    pub fn machine_directory(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The path of a machine's config.
    pub fn config(&self, name: &str) -> String {
        self.machine_directory(name).join("config.yaml").display().to_string()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory().join("kubeconfig")
    }

    /// The administrator's client config.
    pub fn client_config(&self) -> PathBuf {
        self.directory().join("client.yaml")
    }

    /// Runs machinectl against the cluster as its administrator; its standard output, or an error with what it printed.
    pub fn machinectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.machinectl_as(&self.client_config(), arguments)
    }

    /// The same as somebody else.
    pub fn machinectl_as(&self, client_config: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.machinectl_command();
        command.arg("--quiet").arg("--config").arg(client_config).args(arguments);
        printed(&mut command)
    }

    /// What machinectl prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.machinectl(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("machinectl {arguments:?} printed {text:?}"))
    }

    /// Machine APIs of all machines, as the host reaches them, by the machine's name.
    pub fn machines(&self) -> anyhow::Result<Vec<(String, String)>> {
        let shown = self.json(&["cluster", "show", &self.name])?;
        let machines = shown[0]["machines"].as_array().with_context(|| format!("no machines in {shown}"))?;
        let text =
            |machine: &Value, field: &str| machine[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {machine}"));
        machines.iter().map(|machine| Ok((text(machine, "name")?, text(machine, "machineApi")?))).collect()
    }

    /// Runs kubectl against the cluster.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        printed(self.kubectl_command().args(arguments))
    }

    /// `kubectl apply` of a manifest.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let mut child = self
            .kubectl_command()
            .args(["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("kubectl's standard input")?.write_all(manifest.as_bytes())?;
        text(child.wait_with_output()?, "kubectl apply")
    }

    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(place::kubectl());
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--request-timeout=120s");
        command
    }

    fn machinectl_command(&self) -> Command {
        let mut command = Command::new(place::machinectl());
        command.arg("--state-dir").arg(&self.state);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if std::thread::panicking() {
            self.consoles().iter().for_each(|console| show_tail(console));
        }
        // The machine also ends with this process; what matters here is that it ends now.
        if let Err(error) = printed(self.machinectl_command().args(["cluster", "destroy", &self.name, "--yes"])) {
            eprintln!("destroying cluster {}: {error:#}", self.name);
        }
    }
}

fn show_tail(log: &Path) {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- end of {} ---", log.display());
    lines.iter().skip(lines.len().saturating_sub(60)).for_each(|line| eprintln!("{line}"));
}
