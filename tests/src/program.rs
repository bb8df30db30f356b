//! Programs that tests run.

use std::process::{Command, Output, Stdio};

use anyhow::Context;

/// What a program printed; where it fails, an error with all that it printed.
pub fn printed(command: &mut Command) -> anyhow::Result<String> {
    let what = format!("{command:?}");
    text(command.stdin(Stdio::null()).output().with_context(|| what.clone())?, &what)
}

/// The same of a program that has ended.
pub fn text(output: Output, what: &str) -> anyhow::Result<String> {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "{what}: {}: {}{stdout}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(stdout)
}
