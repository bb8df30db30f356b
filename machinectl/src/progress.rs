//! What a command that takes long shows meanwhile, on standard error: on a terminal a line that moves, elsewhere a line for each thing done.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::tell;

#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    quiet: bool,
}

impl Progress {
    /// A line that says what is waited for.
    pub fn waiting(quiet: bool) -> Progress {
        let bar = ProgressBar::with_draw_target(None, target(quiet));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4}  {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Progress { bar, started: Instant::now(), quiet }
    }

    /// A bar of bytes.
    pub fn bytes(quiet: bool, total: u64, what: &str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), target(quiet));
        if let Ok(style) = ProgressStyle::with_template("{wide_msg} {bar:30} {bytes}/{total_bytes} {eta}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Progress { bar, started: Instant::now(), quiet }
    }

    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// How many bytes of the bar are done.
    pub fn set(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// [`Progress::advance`] for another thread.
    pub fn counter(&self) -> impl Fn(u64) + Send + 'static {
        let bar = self.bar.clone();
        move |bytes| bar.inc(bytes)
    }

    /// What is waited for now. Only a terminal shows it.
    pub fn wait_for(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// Something is done: a line that stays, with the time since the start.
    pub fn done(&self, what: &str) {
        if !self.quiet {
            let line = format!("{:>7.1}s  {what}", self.started.elapsed().as_secs_f64());
            self.bar.suspend(|| tell(&line));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn target(quiet: bool) -> ProgressDrawTarget {
    if quiet || !stderr().is_terminal() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}
