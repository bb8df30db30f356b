//! Programs that tests run.

use std::process::{Child, Command, Output, Stdio};

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

/// A program that goes on while a test does something else. It must print less than a pipe holds.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Option<Child>,
}

impl Running {
    pub fn start(command: &mut Command) -> anyhow::Result<Running> {
        let what = format!("{command:?}");
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = piped.spawn().with_context(|| what.clone())?;
        Ok(Running { what, child: Some(child) })
    }

    pub fn is_over(&mut self) -> anyhow::Result<bool> {
        let child = self.child.as_mut().context("a program that goes on")?;
        Ok(child.try_wait().with_context(|| self.what.clone())?.is_some())
    }

    /// Waits for its end and gives what it printed, as [`printed`] does.
    pub fn printed(mut self) -> anyhow::Result<String> {
        let child = self.child.take().context("a program that goes on")?;
        text(child.wait_with_output().with_context(|| self.what.clone())?, &self.what)
    }
}

/// Nobody waits for it any more: it is ended.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that is over by itself is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::until::until;

    #[test]
    fn one_that_ends_is_heard_out_and_one_that_does_not_is_ended() {
        let mut echo = Running::start(Command::new("echo").arg("done")).expect("it starts");
        let over = || if echo.is_over()? { Ok(()) } else { anyhow::bail!("it goes on") };
        until("its end", Duration::from_secs(20), over).expect("it ends");
        assert_eq!(echo.printed().expect("what it printed"), "done\n");
        let mut sleep = Running::start(Command::new("sleep").arg("1000")).expect("it starts");
        assert!(!sleep.is_over().expect("a look"));
        let id = sleep.child.as_ref().expect("a child").id();
        drop(sleep);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
