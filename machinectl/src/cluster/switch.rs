//! The segment's switch, and the port that leads to the API servers: a process of its own, which goes on when the command that started it ends.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use controlplane::ports::API_SERVER_PORT;
use testbed::{ProcessId, segment};

use super::state::{Folder, Record};
use crate::failure::Failure;

/// Folder of its plan, its control socket and its log, in the cluster's.
const FOLDER: &str = "segment";
const LOG: &str = "switch.log";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Runs the switch of a local cluster; machinectl starts it itself
#[derive(Debug, Args)]
pub struct Switch {
    directory: PathBuf,
    /// Ends by itself after this time
    #[arg(long)]
    limit: Option<machine::config::Duration>,
}

impl Switch {
    pub fn run(self) -> Result<(), Failure> {
        if let Some(limit) = self.limit {
            thread::spawn(move || {
                thread::sleep(limit.0);
                std::process::exit(0);
            });
        }
        Ok(segment::serve(&self.directory)?)
    }
}

/// Where the switch of a cluster has its files.
pub fn directory(cluster: &Path) -> PathBuf {
    cluster.join(FOLDER)
}

/// Has the switch know every machine of the record, and where their API servers are; starts it, if it does not run. What the links are like
/// stays as it is.
pub fn ensure(folder: &Folder, record: &mut Record) -> Result<(), Failure> {
    let directory = directory(&folder.directory);
    let mut plan = plan(&directory)?;
    plan.ports = record.machines.iter().map(|member| segment::Port { name: member.name(), directory: folder.of(member) }).collect();
    let leads_to = record.control_planes().filter_map(|member| member.port(API_SERVER_PORT)).collect();
    plan.front = record.kubernetes_port.map(|port| segment::Front { port, leads_to });
    // What was said of a machine goes with it.
    let known = |name: &str| name == segment::ANY || plan.ports.iter().any(|port| port.name == name);
    plan.links.retain(|link| known(&link.from) && known(&link.to));
    if record.switch.as_ref().is_some_and(ProcessId::is_alive) {
        segment::set(&directory, &plan)?;
        return Ok(());
    }
    plan.save(&directory)?;
    record.switch = Some(start(&directory, record.limit)?);
    Ok(())
}

/// The plan that the switch has, or had last.
pub fn plan(directory: &Path) -> Result<segment::Plan, Failure> {
    let plan = if segment::Plan::exists(directory) { segment::Plan::load(directory)? } else { segment::Plan::default() };
    Ok(plan)
}

fn start(directory: &Path, limit: Option<machine::config::Duration>) -> Result<ProcessId, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::of("this program", &error))?;
    let log = directory.join(LOG);
    let stderr = File::create(&log).map_err(|error| Failure::of(log.display(), &error))?;
    let mut command = Command::new(&program);
    command.args(["cluster", "switch"]).arg(directory);
    if let Some(limit) = limit {
        command.args(["--limit", &limit.to_string()]);
    }
    // A group of its own: Ctrl-C at the terminal is not meant for it.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
    let mut child = command.spawn().map_err(|error| Failure::of(program.display(), &error))?;
    let began = Instant::now();
    loop {
        if segment::status(directory).is_ok()
            && let Some(process) = i32::try_from(child.id()).ok().and_then(ProcessId::of)
        {
            return Ok(process);
        }
        if child.try_wait().is_ok_and(|status| status.is_some()) || began.elapsed() >= PATIENCE {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let _ = child.kill();
            return Err(Failure::new(log.display(), format!("the segment's switch does not run: {}", said.trim())));
        }
        thread::sleep(POLL);
    }
}

/// Ends the switch, by force if it does not listen.
pub fn end(cluster: &Path, process: &ProcessId) {
    // One that does not answer is killed.
    let _ = segment::stop(&directory(cluster));
    let began = Instant::now();
    while process.is_alive() && began.elapsed() < Duration::from_secs(1) {
        thread::sleep(POLL);
    }
    process.kill();
}
