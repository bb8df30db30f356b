//! What boot and shutdown are made of: phases of steps, in order, each with the answer to its failure. The sequences are values; their
//! goldens are the documentation of boot.

use std::fmt::Display;
use std::time::Duration;

use machine::protocol::StepRecord;

/// What happens when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is recorded and shown; the boot goes on without it.
    GoOn,
    /// It is tried again this many times, a second apart; then as [`Answer::Restart`].
    Retry(u8),
    /// The reason is shown, and after a countdown the machine restarts.
    Restart,
}

impl Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::GoOn => write!(f, "go on"),
            Answer::Retry(times) => write!(f, "retry {times} times, then restart"),
            Answer::Restart => write!(f, "restart"),
        }
    }
}

/// A step of some sequence.
pub trait Step: Copy {
    /// What it does, as records and goldens name it.
    fn name(&self) -> String;
    fn answer(&self) -> Answer;
}

/// Steps with a common purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase<S> {
    pub name: &'static str,
    pub steps: Vec<S>,
}

/// The record of a step that ran.
pub fn record(step: &impl Step, began: Duration, ended: Duration, error: Option<String>) -> StepRecord {
    StepRecord { name: step.name(), began, took: ended.saturating_sub(began), error }
}
