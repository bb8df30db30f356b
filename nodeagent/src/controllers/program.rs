//! Upstream's programs beside the agent, for tests: each has a folder of its own, in which its log is.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use tempfile::TempDir;

/// Lines of a log that a failure shows.
const TAIL: usize = 20;

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    // Last, so that it goes after the process that writes into it.
    directory: TempDir,
}

impl Program {
    /// The command's files may lie in the folder.
    pub fn start(command: &mut Command, directory: TempDir) -> anyhow::Result<Program> {
        let log = File::create(directory.path().join("log"))?;
        let child = command.current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("starting {command:?}"))?;
        Ok(Program { child, directory })
    }

    /// The end of what it has said.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
