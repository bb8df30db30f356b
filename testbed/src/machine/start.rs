//! From a spec to a QEMU process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::command::{arguments, overlay};
use super::spec::{Boot, Lifetime, MachineSpec};
use super::tpm::RunningTpm;
use super::{Disk, DiskFormat, Machine, POLL, RunningMachine, files};
use crate::accelerator::guest_spoke;
use crate::program::{Program, complaints};
use crate::{Accelerator, Error, ProcessId, Qmp};

const QEMU: Program = Program { name: "qemu-system-x86_64", package: "qemu-system-x86" };
const QEMU_IMG: Program = Program { name: "qemu-img", package: "qemu-utils" };
/// How long QEMU may take to answer its QMP socket, and a TPM to listen.
pub(super) const START_PATIENCE: Duration = Duration::from_secs(30);
/// A guest has hung under KVM: no other of this process is to wait for it.
static KVM_HANGS: AtomicBool = AtomicBool::new(false);
/// How long firmware and loader may take under an accelerator that works: a few seconds under KVM, more on a busy host.
const KERNEL_PATIENCE: Duration = Duration::from_secs(20);

impl Machine {
    /// Starts the machine in `directory`, where it finds its disks again if it ran there before. Of several accelerators the first is taken
    /// under which the guest speaks.
    pub fn start(spec: &MachineSpec, directory: &Path, accelerators: &[Accelerator], lifetime: Lifetime) -> Result<Machine, Error> {
        fs::create_dir_all(directory).map_err(Error::file("make directory", directory))?;
        prepare(spec, directory)?;
        let (last, trials) = accelerators.split_last().unwrap_or((&Accelerator::Tcg, &[]));
        for accelerator in trials {
            let is_kvm = *accelerator == Accelerator::Kvm;
            if is_kvm && KVM_HANGS.load(Ordering::Relaxed) {
                continue;
            }
            let Ok(mut machine) = launch(spec, directory, *accelerator, lifetime) else { continue };
            let spoke = || Ok(guest_spoke(&machine.console().text()?).then_some(()));
            match machine.wait("the kernel or init", KERNEL_PATIENCE, spoke) {
                Ok(()) => return Ok(machine),
                Err(_) => {
                    machine.kill();
                    KVM_HANGS.fetch_or(is_kvm, Ordering::Relaxed);
                }
            }
        }
        launch(spec, directory, *last, lifetime)
    }

    /// For tests: in a temporary directory that is kept if the test fails, with the accelerator that `CORTEN_ACCEL` names in `asked`, bounded.
    pub fn start_bounded(spec: &MachineSpec, asked: Option<&str>, limit: Duration) -> Result<Machine, Error> {
        let accelerators = Accelerator::candidates(asked, Path::new("/dev/kvm"))?;
        let temporary = tempfile::Builder::new().prefix(&format!("corten-{}-", spec.name)).tempdir();
        let temporary = temporary.map_err(Error::file("make a directory in", std::env::temp_dir()))?;
        let mut machine = Machine::start(spec, temporary.path(), &accelerators, Lifetime::Bounded(limit))?;
        machine.temporary = Some(temporary);
        Ok(machine)
    }
}

/// Makes the files that the machine has of its own, unless they are there from an earlier run.
fn prepare(spec: &MachineSpec, directory: &Path) -> Result<(), Error> {
    if let Boot::Firmware(firmware) = &spec.boot {
        let own = spec.variables.clone().unwrap_or_else(|| directory.join(files::FIRMWARE_VARIABLES));
        if !own.exists() {
            fs::copy(&firmware.variables, &own).map_err(Error::file("copy firmware variables to", &own))?;
        }
    }
    for (index, drive) in spec.drives.iter().enumerate() {
        if let Disk::Overlay { base, format, size_bytes } = &drive.content {
            make_overlay(&directory.join(overlay(index)), base, *format, *size_bytes)?;
        }
    }
    Ok(())
}

fn make_overlay(path: &Path, base: &Path, format: DiskFormat, size_bytes: Option<u64>) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    let base = base.canonicalize().map_err(Error::file("find the image", base))?;
    let needed = virtual_size(&base)?;
    if let Some(asked) = size_bytes.filter(|asked| *asked < needed) {
        return Err(Error::DiskTooSmall { asked, needed, image: base });
    }
    let mut command = QEMU_IMG.command();
    command.args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"]).arg(&base).arg(path);
    command.args(size_bytes.map(|bytes| bytes.to_string()));
    QEMU_IMG.run(command).map(drop)
}

/// Size of the disk that the image stands for.
fn virtual_size(image: &Path) -> Result<u64, Error> {
    let mut command = QEMU_IMG.command();
    command.args(["info", "--output=json"]).arg(image);
    let output = QEMU_IMG.run(command)?;
    let facts: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
    let unreadable = || Error::Tool { program: QEMU_IMG.name.to_owned(), status: "no virtual-size".to_owned(), output };
    facts["virtual-size"].as_u64().ok_or_else(unreadable)
}

fn launch(spec: &MachineSpec, directory: &Path, accelerator: Accelerator, lifetime: Lifetime) -> Result<Machine, Error> {
    for stale in [files::PID, files::QMP_SOCKET, files::CONSOLE_SOCKET, files::CONSOLE_LOG] {
        let _ = fs::remove_file(directory.join(stale));
    }
    let tpm = spec.tpm.as_ref().map(|tpm| RunningTpm::start(tpm, directory, lifetime)).transpose()?;
    let qemu = launch_qemu(&arguments(spec, accelerator), directory, lifetime);
    let (process, keeper) = match qemu {
        Ok(running) => running,
        Err(error) => {
            tpm.into_iter().for_each(|tpm| tpm.end(false));
            return Err(error);
        }
    };
    let record =
        RunningMachine { name: spec.name.clone(), directory: directory.to_owned(), process, accelerator, forwards: spec.forwards.clone() };
    Ok(Machine { record, keeper, tpm, temporary: None })
}

fn launch_qemu(arguments: &[String], directory: &Path, lifetime: Lifetime) -> Result<(ProcessId, Option<JoinHandle<()>>), Error> {
    let mut beside = run_beside(QEMU, directory, arguments, lifetime, Path::new(files::LOG))?;
    let process = await_qmp(directory, &mut beside).inspect_err(|_| {
        if let Some(process) = pid(&directory.join(files::PID)) {
            process.kill();
        }
    })?;
    Ok((process, beside.keeper()))
}

/// A program that was started for a machine.
#[derive(Debug)]
pub(super) enum Beside {
    /// It goes on without us.
    Detached(Child),
    /// The thread that its life is bound to.
    Bound(JoinHandle<()>),
}

impl Beside {
    pub fn is_over(&mut self) -> bool {
        match self {
            Beside::Detached(child) => child.try_wait().is_ok_and(|ended| ended.is_some()),
            Beside::Bound(keeper) => keeper.is_finished(),
        }
    }

    pub fn keeper(self) -> Option<JoinHandle<()>> {
        match self {
            Beside::Detached(_) => None,
            Beside::Bound(keeper) => Some(keeper),
        }
    }
}

/// Runs a program in the machine's directory for as long as the machine may live. It stays in that directory, which its sockets are named from:
/// QEMU's own way into the background would take it to the root.
pub(super) fn run_beside(
    program: Program,
    directory: &Path,
    arguments: &[String],
    lifetime: Lifetime,
    log: &Path,
) -> Result<Beside, Error> {
    let log = directory.join(log);
    let stderr = File::create(&log).map_err(Error::file("create", &log))?;
    let mut command = match lifetime {
        // A session of its own: neither Ctrl-C nor the terminal's end is meant for the machine.
        Lifetime::Detached => {
            let mut command = Command::new("setsid");
            command.arg(program.name).args(arguments);
            command
        }
        Lifetime::DetachedFor(limit) => limited(program, arguments, limit),
        Lifetime::Bounded(limit) => {
            let inner = limited(program, arguments, limit);
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(inner.get_program()).args(inner.get_args());
            command
        }
    };
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    if let Lifetime::Bounded(_) = lifetime {
        return keep(command).map(Beside::Bound);
    }
    if let Lifetime::DetachedFor(_) = lifetime {
        command.process_group(0);
    }
    match command.spawn() {
        Ok(child) => Ok(Beside::Detached(child)),
        Err(source) if lifetime == Lifetime::Detached => {
            Err(Error::Program { program: "setsid".to_owned(), package: "util-linux", source })
        }
        Err(source) => Err(Error::Program { program: "timeout".to_owned(), package: "coreutils", source }),
    }
}

/// `timeout` ends the program after the limit, and the program ends with it.
fn limited(program: Program, arguments: &[String], limit: Duration) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", &limit.as_secs().max(1).to_string(), "setpriv", "--pdeathsig", "KILL", program.name]).args(arguments);
    command
}

/// Runs a command from a thread that lives as long as it does: the kernel's parent-death signal is sent when the *thread* that forked ends.
/// Each link of the chain dies with the one above it, so that even a killed test process leaves no machine behind.
fn keep(mut command: Command) -> Result<JoinHandle<()>, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (send, receive) = mpsc::channel();
    let keeper = thread::spawn(move || {
        let child = command.spawn();
        let (started, child) = match child {
            Ok(child) => (Ok(()), Some(child)),
            Err(error) => (Err(error), None),
        };
        let _ = send.send(started);
        if let Some(mut child) = child {
            let _ = child.wait();
        }
    });
    match receive.recv() {
        Ok(Ok(())) => Ok(keeper),
        Ok(Err(source)) => Err(Error::Program { program: "setpriv".to_owned(), package: "util-linux", source }),
        Err(_) => Err(Error::Tool { program, status: "no status".to_owned(), output: "its thread ended".to_owned() }),
    }
}

/// QEMU has taken its arguments once its QMP socket answers.
fn await_qmp(directory: &Path, beside: &mut Beside) -> Result<ProcessId, Error> {
    let started = Instant::now();
    loop {
        let ended = beside.is_over();
        match (pid(&directory.join(files::PID)), Qmp::connect(directory, files::QMP_SOCKET)) {
            (Some(process), Ok(_)) => return Ok(process),
            (_, Err(error)) if started.elapsed() >= START_PATIENCE => return Err(error),
            _ if ended || started.elapsed() >= START_PATIENCE => {
                let output = complaints(&fs::read_to_string(directory.join(files::LOG)).unwrap_or_default());
                return Err(Error::Tool { program: QEMU.name.to_owned(), status: "no machine".to_owned(), output });
            }
            _ => thread::sleep(POLL),
        }
    }
}

/// The process whose number the file holds.
pub(super) fn pid(file: &Path) -> Option<ProcessId> {
    ProcessId::of(fs::read_to_string(file).ok()?.trim().parse().ok()?)
}
