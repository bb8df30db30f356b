//! The machine's TPM: a process of swtpm that begins before QEMU and ends when QEMU lets go of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::spec::{Lifetime, Tpm};
use super::start::{START_PATIENCE, pid, run_beside};
use super::{POLL, files};
use crate::program::Program;
use crate::{Error, ProcessId};

const SWTPM: Program = Program { name: "swtpm", package: "swtpm" };

/// What it says before its log is open.
const MESSAGES: &str = "swtpm.log";

/// One that runs.
#[derive(Debug)]
pub struct RunningTpm {
    process: ProcessId,
    /// Thread whose life it is bound to; none beside detached machines.
    keeper: Option<JoinHandle<()>>,
}

impl RunningTpm {
    /// Starts it in the machine's directory, with what it kept from earlier runs.
    pub fn start(tpm: &Tpm, directory: &Path, lifetime: Lifetime) -> Result<RunningTpm, Error> {
        let state = state_directory(tpm, directory);
        fs::create_dir_all(&state).map_err(Error::file("make directory", &state))?;
        for stale in [files::TPM_SOCKET, files::TPM_PID, files::TPM_LOG] {
            let _ = fs::remove_file(directory.join(stale));
        }
        let mut beside = run_beside(SWTPM, directory, &arguments(&state), lifetime, Path::new(MESSAGES))?;
        let started = Instant::now();
        // It writes its number when it listens.
        loop {
            if let Some(process) = pid(&directory.join(files::TPM_PID)) {
                return Ok(RunningTpm { process, keeper: beside.keeper() });
            }
            if beside.is_over() || started.elapsed() >= START_PATIENCE {
                let said = [files::TPM_LOG, MESSAGES].map(|name| fs::read_to_string(directory.join(name)).unwrap_or_default());
                return Err(Error::Tool {
                    program: SWTPM.name.to_owned(),
                    status: format!("no TPM (Debian: {})", SWTPM.package),
                    output: said.concat(),
                });
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until it has ended, which QEMU's end makes it do; one that QEMU never reached is ended.
    pub fn end(self, qemu_reached_it: bool) {
        if !qemu_reached_it {
            self.process.kill();
        }
        if let Some(keeper) = self.keeper {
            let _ = keeper.join();
        }
    }
}

fn state_directory(tpm: &Tpm, directory: &Path) -> PathBuf {
    tpm.state.clone().unwrap_or_else(|| directory.join(files::TPM_STATE))
}

/// The socket's path is relative, as QEMU's are.
fn arguments(state: &Path) -> Vec<String> {
    let mut out: Vec<String> = ["socket", "--tpm2", "--terminate"].map(str::to_owned).to_vec();
    out.extend(["--tpmstate".to_owned(), format!("dir={}", state.display())]);
    out.extend(["--ctrl".to_owned(), format!("type=unixio,path={}", files::TPM_SOCKET)]);
    out.extend(["--pid".to_owned(), format!("file={}", files::TPM_PID)]);
    // Level 2 is the first that shows commands.
    out.extend(["--log".to_owned(), format!("file={},level=2", files::TPM_LOG)]);
    out
}
