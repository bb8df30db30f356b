//! Starting a service's process as its spec says, and the tools that init runs itself.

mod capabilities;
mod confinement;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use machine::Root;
use machine::service::{Exit, Readiness, ServiceSpec};
use nix::sys::signal::SigSet;
use rustix::process::{Resource, Rlimit, WaitStatus};

use crate::sys;
pub use capabilities::unknown_name;
use confinement::Confinement;

/// Who a process becomes and what it may see, resolved before the fork.
#[derive(Debug)]
struct Preparation {
    cgroup: Option<File>,
    oom_score_adjust: i16,
    open_files: u64,
    confinement: Option<Confinement>,
    identity: capabilities::Identity,
}

/// Where a service's output goes and where it reports readiness.
#[derive(Debug)]
pub struct Surroundings {
    pub cgroup: Option<File>,
    pub output: OwnedFd,
    pub notify_socket: PathBuf,
}

/// Starts a service and answers its process id. The error is what kept it from starting; which step that was is in its log.
pub fn start(root: &Root, spec: &ServiceSpec, surroundings: Surroundings) -> io::Result<u32> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(&spec.environment).current_dir("/").stdin(Stdio::null());
    if spec.readiness == Readiness::Notify {
        command.env("NOTIFY_SOCKET", &surroundings.notify_socket);
    }
    command.stdout(surroundings.output.try_clone()?).stderr(surroundings.output);
    let preparation = Preparation {
        cgroup: surroundings.cgroup,
        oom_score_adjust: spec.oom_score_adjust,
        open_files: spec.open_files,
        confinement: confinement::plan(root, spec)?,
        identity: capabilities::identity(spec),
    };
    sys::before_exec(&mut command, move || {
        prepare(&preparation).map_err(|(step, error)| {
            // The parent gets the number only; the log says what it was about.
            let _ = writeln!(io::stderr(), "init: not started: {step}: {error}");
            error
        })
    });
    Ok(command.spawn()?.id())
}

/// Starts one of the root's own tools, which needs none of a service's limits.
pub fn start_tool(program: &str, arguments: &[String], output: OwnedFd) -> io::Result<u32> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin").current_dir("/").stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    sys::before_exec(&mut command, || Ok(SigSet::empty().thread_set_mask()?));
    Ok(command.spawn()?.id())
}

/// How a process ended, as the kernel put it.
pub fn exit(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

type Failed = (&'static str, io::Error);

/// In the child, before exec. The order matters: what needs privileges comes first.
fn prepare(preparation: &Preparation) -> Result<(), Failed> {
    fn named<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Failed {
        move |error| (step, error.into())
    }
    SigSet::empty().thread_set_mask().map_err(|error| ("reset the signal mask", error.into()))?;
    rustix::process::setsid().map_err(named("start a session"))?;
    if let Some(mut cgroup) = preparation.cgroup.as_ref() {
        cgroup.write_all(b"0").map_err(named("enter the cgroup"))?;
    }
    std::fs::write("/proc/self/oom_score_adj", preparation.oom_score_adjust.to_string()).map_err(named("set the OOM score"))?;
    let limit = Some(preparation.open_files);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).map_err(named("limit open files"))?;
    if let Some(confinement) = &preparation.confinement {
        confinement.enter().map_err(named("enter the read-only view"))?;
    }
    preparation.identity.assume()
}
