//! Waits on a machine that comes up: each has a deadline, says what it waits for and why it is not there yet, and shows the console when
//! it gives up.

use std::time::{Duration, Instant};

use testbed::Machine;

use crate::failure::{Failure, Kind};
use crate::progress::Progress;

/// How often a wait asks again.
const AGAIN: Duration = Duration::from_millis(500);

/// The time that a whole command has.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    began: Instant,
    whole: Duration,
}

impl Deadline {
    pub fn after(whole: Duration) -> Deadline {
        Deadline { began: Instant::now(), whole }
    }

    /// What is left of it, at most `share`.
    pub fn left(&self, share: Duration) -> Duration {
        self.whole.saturating_sub(self.began.elapsed()).min(share)
    }
}

/// A wait: what for, and how long.
#[derive(Debug)]
pub struct Wait<'a> {
    pub machine: &'a Machine,
    pub progress: &'a Progress,
    pub what: &'a str,
    pub deadline: Duration,
}

impl Wait<'_> {
    /// Tries until it succeeds. A machine that ends, ends the wait.
    pub async fn until<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let began = Instant::now();
        let mut trouble = "no answer".to_owned();
        self.progress.wait_for(self.what);
        loop {
            let alive = self.machine.is_alive();
            let left = self.deadline.saturating_sub(began.elapsed());
            // A try that the deadline cuts short says nothing new.
            match tokio::time::timeout(left, attempt()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => trouble = failure.to_string(),
                Err(_) => {}
            }
            if !alive {
                return Err(self.given_up(Kind::Failed, &format!("the machine ended while waiting for {}", self.what), &trouble));
            }
            if began.elapsed() >= self.deadline {
                let problem = format!("waited {} s for {}", self.deadline.as_secs(), self.what);
                return Err(self.given_up(Kind::Deadline, &problem, &trouble));
            }
            self.progress.wait_for(format!("{}: {trouble}", self.what));
            tokio::time::sleep(AGAIN.min(left)).await;
        }
    }

    /// Until the machine has ended.
    pub async fn until_off(&self) -> Result<(), Failure> {
        match self.until(async || Err::<(), _>(Failure::new(self.what, "still on"))).await {
            Err(failure) if self.machine.is_alive() => Err(failure),
            _ => Ok(()),
        }
    }

    fn given_up(&self, kind: Kind, problem: &str, trouble: &str) -> Failure {
        let console = self.machine.console();
        let console = format!("console ({}):\n{}", console.path().display(), console.tail());
        // What happened comes last: that is what a terminal still shows.
        let problems = vec![console, format!("{problem}; last: {trouble}")];
        Failure { kind, problems, ..Failure::new(&self.machine.record().name, "") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_never_exceeds_what_is_left() {
        let deadline = Deadline::after(Duration::from_secs(10));
        assert!(deadline.left(Duration::from_secs(60)) <= Duration::from_secs(10));
        assert_eq!(deadline.left(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(Deadline::after(Duration::ZERO).left(Duration::from_secs(1)), Duration::ZERO);
    }
}
