//! Programs of the host.

use std::process::{Command, Stdio};

use crate::Error;

/// A program, and the package of Debian that has it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

impl Program {
    pub fn command(self) -> Command {
        Command::new(self.name)
    }

    /// What the program printed.
    pub fn run(self, mut command: Command) -> Result<String, Error> {
        let output = command.stdin(Stdio::null()).output();
        let output = output.map_err(|source| Error::Program { program: self.name.to_owned(), package: self.package, source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let output_text = complaints(&String::from_utf8_lossy(&output.stderr));
        Err(Error::Tool { program: self.name.to_owned(), status: output.status.to_string(), output: output_text })
    }
}

/// Without the warnings about processor features that emulation has not: there are a dozen, and they are no cause of anything.
pub fn complaints(stderr: &str) -> String {
    stderr.lines().filter(|line| !line.contains("warning: TCG doesn't support")).collect::<Vec<_>>().join("\n")
}
