//! From a spec to a QEMU process.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::command::{arguments, overlay};
use super::spec::{Boot, Disk, DiskFormat, Lifetime, MachineSpec};
use super::{Machine, POLL, RunningMachine, files};
use crate::accelerator::KERNEL_SPOKE;
use crate::{Accelerator, Error, ProcessId, Qmp};

const QEMU: &str = "qemu-system-x86_64";
/// How long QEMU may take to answer its QMP socket.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How long firmware and loader may take under an accelerator that works: a few seconds under KVM, more on a busy host.
const KERNEL_PATIENCE: Duration = Duration::from_secs(20);

impl Machine {
    /// Starts the machine in `directory`, where it finds its disks again if it ran there before. Of several accelerators the first is taken
    /// under which the kernel speaks.
    pub fn start(spec: &MachineSpec, directory: &Path, accelerators: &[Accelerator], lifetime: Lifetime) -> Result<Machine, Error> {
        fs::create_dir_all(directory).map_err(Error::file("make directory", directory))?;
        prepare(spec, directory)?;
        let (last, trials) = accelerators.split_last().unwrap_or((&Accelerator::Tcg, &[]));
        for accelerator in trials {
            let Ok(mut machine) = launch(spec, directory, *accelerator, lifetime) else { continue };
            match machine.wait_console(KERNEL_SPOKE, KERNEL_PATIENCE) {
                Ok(_) => return Ok(machine),
                Err(_) => machine.kill(),
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
        let own = directory.join(files::FIRMWARE_VARIABLES);
        if !own.exists() {
            fs::copy(&firmware.variables, &own).map_err(Error::file("copy firmware variables to", &own))?;
        }
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        if let Disk::Overlay { base, format, size_bytes } = disk {
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
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", format.name(), "-b"]).arg(&base).arg(path);
    command.args(size_bytes.map(|bytes| bytes.to_string()));
    run("qemu-img", "qemu-utils", command).map(drop)
}

/// Size of the disk that the image stands for.
fn virtual_size(image: &Path) -> Result<u64, Error> {
    let mut command = Command::new("qemu-img");
    command.args(["info", "--output=json"]).arg(image);
    let output = run("qemu-img", "qemu-utils", command)?;
    let facts: serde_json::Value = serde_json::from_str(&output).unwrap_or_default();
    let unreadable = || Error::Tool { program: "qemu-img".to_owned(), status: "no virtual-size".to_owned(), output };
    facts["virtual-size"].as_u64().ok_or_else(unreadable)
}

/// What the program printed.
fn run(program: &str, package: &'static str, mut command: Command) -> Result<String, Error> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Program { program: program.to_owned(), package, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let output_text = complaints(&String::from_utf8_lossy(&output.stderr));
    Err(Error::Tool { program: program.to_owned(), status: output.status.to_string(), output: output_text })
}

/// Without the warnings about processor features that emulation has not: there are a dozen, and they are no cause of anything.
fn complaints(stderr: &str) -> String {
    stderr.lines().filter(|line| !line.contains("warning: TCG doesn't support")).collect::<Vec<_>>().join("\n")
}

fn launch(spec: &MachineSpec, directory: &Path, accelerator: Accelerator, lifetime: Lifetime) -> Result<Machine, Error> {
    for stale in [files::PID, files::QMP_SOCKET, files::CONSOLE_SOCKET, files::CONSOLE_LOG] {
        let _ = fs::remove_file(directory.join(stale));
    }
    let arguments = arguments(spec, accelerator, lifetime);
    let keeper = match lifetime {
        Lifetime::Detached => {
            let mut command = Command::new(QEMU);
            command.args(&arguments).current_dir(directory);
            run(QEMU, "qemu-system-x86", command)?;
            None
        }
        Lifetime::DetachedFor(limit) => {
            let mut command = limited(directory, &arguments, limit)?;
            // A group of its own: Ctrl-C at the terminal is not meant for the machine.
            let spawned = command.process_group(0).spawn();
            spawned.map_err(|source| Error::Program { program: "timeout".to_owned(), package: "coreutils", source })?;
            None
        }
        Lifetime::Bounded(limit) => Some(keep(directory, &arguments, limit)?),
    };
    let process = await_qmp(directory, keeper.as_ref()).inspect_err(|_| {
        if let Some(process) = pid(&directory.join(files::PID)) {
            process.kill();
        }
    })?;
    let record =
        RunningMachine { name: spec.name.clone(), directory: directory.to_owned(), process, accelerator, forwards: spec.forwards.clone() };
    Ok(Machine { record, keeper, temporary: None })
}

/// `timeout` ends QEMU after the limit, and QEMU ends with it.
fn limited(directory: &Path, arguments: &[String], limit: Duration) -> Result<Command, Error> {
    let log = directory.join(files::LOG);
    let stderr = File::create(&log).map_err(Error::file("create", &log))?;
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", &limit.as_secs().max(1).to_string(), "setpriv", "--pdeathsig", "KILL", QEMU]).args(arguments);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    Ok(command)
}

/// Runs QEMU from a thread that lives as long as it does: the kernel's parent-death signal is sent when the *thread* that forked ends. Each
/// link of the chain dies with the one above it, so that even a killed test process leaves no machine behind.
fn keep(directory: &Path, arguments: &[String], limit: Duration) -> Result<JoinHandle<()>, Error> {
    let inner = limited(directory, arguments, limit)?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(inner.get_program()).args(inner.get_args());
    let log = directory.join(files::LOG);
    let stderr = File::create(&log).map_err(Error::file("create", &log))?;
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
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
        Err(_) => Err(Error::Tool { program: QEMU.to_owned(), status: "no status".to_owned(), output: "its thread ended".to_owned() }),
    }
}

/// QEMU has taken its arguments once its QMP socket answers.
fn await_qmp(directory: &Path, keeper: Option<&JoinHandle<()>>) -> Result<ProcessId, Error> {
    let started = Instant::now();
    loop {
        let ended = keeper.is_some_and(JoinHandle::is_finished);
        match (pid(&directory.join(files::PID)), Qmp::connect(directory, files::QMP_SOCKET)) {
            (Some(process), Ok(_)) => return Ok(process),
            (_, Err(error)) if started.elapsed() >= START_PATIENCE => return Err(error),
            _ if ended || started.elapsed() >= START_PATIENCE => {
                let output = complaints(&fs::read_to_string(directory.join(files::LOG)).unwrap_or_default());
                return Err(Error::Tool { program: QEMU.to_owned(), status: "no machine".to_owned(), output });
            }
            _ => thread::sleep(POLL),
        }
    }
}

fn pid(file: &PathBuf) -> Option<ProcessId> {
    ProcessId::of(fs::read_to_string(file).ok()?.trim().parse().ok()?)
}
