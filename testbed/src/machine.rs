//! A machine in QEMU: started, watched, ended.

mod command;
mod drive;
mod spec;
mod start;
mod tpm;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use crate::{Accelerator, Console, Error, ProcessId, Qmp};
use tpm::RunningTpm;

pub use command::arguments;
pub use drive::{Device, Disk, DiskFormat, Drive};
pub use spec::{Boot, BootOrder, Forward, HardwareAddress, Lifetime, MachineSpec, NAME_SERVER, NetworkBoot, Tpm, TpmInterface, Watchdog};

/// Names of the files in a machine's directory.
pub(crate) mod files {
    pub const CONSOLE_LOG: &str = "console.log";
    /// Connects to the serial console, both ways.
    pub const CONSOLE_SOCKET: &str = "console.sock";
    pub const QMP_SOCKET: &str = "qmp.sock";
    pub const PID: &str = "qemu.pid";
    /// What QEMU says on stderr.
    pub const LOG: &str = "qemu.log";
    pub const FIRMWARE_VARIABLES: &str = "firmware-variables.fd";
    /// Directory of what the TPM keeps.
    pub const TPM_STATE: &str = "tpm";
    pub const TPM_SOCKET: &str = "tpm.sock";
    pub const TPM_PID: &str = "tpm.pid";
    /// Every command that the TPM was given, and its answer.
    pub const TPM_LOG: &str = "tpm.log";
}

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(50);
/// How long QEMU may take to quit when asked.
const QUIT_PATIENCE: Duration = Duration::from_secs(5);

/// What another process needs to find the machine again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningMachine {
    pub name: String,
    /// Holds all of its files.
    pub directory: PathBuf,
    pub process: ProcessId,
    pub accelerator: Accelerator,
    pub forwards: Vec<Forward>,
}

/// A machine that runs. A bounded one is killed when this value is dropped, detached ones go on.
#[derive(Debug)]
pub struct Machine {
    record: RunningMachine,
    /// Thread whose life QEMU's is bound to; none for detached machines.
    keeper: Option<JoinHandle<()>>,
    /// None for machines without one, and for attached ones: it ends when QEMU does.
    tpm: Option<RunningTpm>,
    /// Removed with the machine, unless a test fails.
    temporary: Option<TempDir>,
}

impl Machine {
    /// A machine that was started detached, maybe by another process.
    pub fn attach(record: RunningMachine) -> Machine {
        Machine { record, keeper: None, tpm: None, temporary: None }
    }

    pub fn record(&self) -> &RunningMachine {
        &self.record
    }

    pub fn directory(&self) -> &Path {
        &self.record.directory
    }

    /// Port on 127.0.0.1 that leads to the guest's port.
    pub fn port(&self, guest: u16) -> Option<u16> {
        self.record.forwards.iter().find(|forward| forward.guest == guest).map(|forward| forward.host)
    }

    pub fn is_alive(&self) -> bool {
        self.record.process.is_alive()
    }

    pub fn console(&self) -> Console {
        Console::new(self.directory().join(files::CONSOLE_LOG))
    }

    pub fn qmp(&self) -> Result<Qmp, Error> {
        Qmp::connect(self.directory(), files::QMP_SOCKET)
    }

    /// Waits until the console holds `part` and gives the whole line. The machine's end and the deadline are errors that show the console.
    pub fn wait_console(&self, part: &str, deadline: Duration) -> Result<String, Error> {
        let console = self.console();
        self.wait(&format!("{part:?} on the console"), deadline, || console.line_with(part))
    }

    /// Waits until `probe` gives a value.
    pub fn wait<T>(&self, awaited: &str, deadline: Duration, mut probe: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
        let started = Instant::now();
        loop {
            // Asked before the probe: what a machine said just before its end still counts.
            let alive = self.is_alive();
            if let Some(value) = probe()? {
                return Ok(value);
            }
            let (name, awaited, tail) = (self.record.name.clone(), awaited.to_owned(), || self.console().tail());
            if !alive {
                return Err(Error::Ended { name, awaited, tail: tail() });
            }
            if started.elapsed() >= deadline {
                return Err(Error::Deadline { name, awaited, waited: deadline, tail: tail() });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until the machine is off: the guest powered off, or QEMU was ended.
    pub fn wait_off(&self, deadline: Duration) -> Result<(), Error> {
        let over = self.wait("power-off", deadline, || Ok(None::<()>));
        match over {
            Err(Error::Ended { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Presses the power button (ACPI).
    pub fn press_power_button(&self) -> Result<(), Error> {
        self.qmp()?.execute("system_powerdown", json!({})).map(drop)
    }

    /// Resets the machine as its reset button does.
    pub fn reset(&self) -> Result<(), Error> {
        self.qmp()?.execute("system_reset", json!({})).map(drop)
    }

    /// Takes the power away: QEMU gets SIGKILL and is gone when this returns. What it handed to the host before stays written; for a disk
    /// that loses power, see [`crate::nbd::NbdDisk`].
    pub fn kill(&mut self) {
        self.record.process.kill();
        self.await_end();
    }

    /// Ends QEMU cleanly, by force if it does not listen.
    pub fn quit(&mut self) {
        if let Ok(mut qmp) = self.qmp() {
            // QEMU may close the connection before it answers.
            let _ = qmp.execute("quit", json!({}));
            let _ = self.wait_off(QUIT_PATIENCE);
        }
        self.kill();
    }

    fn await_end(&mut self) {
        match self.keeper.take() {
            Some(keeper) => drop(keeper.join()),
            // Detached: not our child, so its end can only be seen. SIGKILL is not refused, so this does not last.
            None => {
                while self.is_alive() {
                    std::thread::sleep(POLL);
                }
            }
        }
        // What it keeps is settled once it is gone.
        if let Some(tpm) = self.tpm.take() {
            tpm.end(true);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.kill();
        }
        if let Some(directory) = self.temporary.take()
            && std::thread::panicking()
        {
            eprintln!("the machine {} left its console at {}", self.record.name, directory.keep().join(files::CONSOLE_LOG).display());
        }
    }
}
