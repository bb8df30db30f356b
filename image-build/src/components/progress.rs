//! What `image-build components` shows while it builds: a living line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing but errors.
    Quiet,
    /// A line when a component begins and one when it is done.
    Lines,
    /// A line that moves.
    Live,
}

impl Detail {
    /// What suits standard error.
    pub fn choose(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Self::Quiet,
            (false, false) => Self::Lines,
            (false, true) => Self::Live,
        }
    }
}

/// Progress of one component.
#[derive(Debug)]
pub struct Progress {
    title: String,
    bar: ProgressBar,
    started: Instant,
    detail: Detail,
}

impl Progress {
    /// Announces component number `number` of `total`.
    pub fn start(detail: Detail, number: usize, total: usize, name: &str, version: &str) -> Self {
        let title = format!("[{number}/{total}] {name} {version}");
        let bar = if detail == Detail::Live { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {pos} packages, {elapsed}  {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(title.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        if detail == Detail::Lines {
            eprintln!("{title}: building");
        }
        Self { title, bar, started: Instant::now(), detail }
    }

    /// One more package is being compiled.
    pub fn package(&self, name: &str) {
        self.bar.inc(1);
        self.bar.set_message(name.to_owned());
    }

    /// Go said something, such as which module it downloads.
    pub fn note(&self, line: &str) {
        match self.detail {
            Detail::Live => self.bar.set_message(line.to_owned()),
            Detail::Lines if line.starts_with("go: downloading ") => eprintln!("{}: {line}", self.title),
            Detail::Lines | Detail::Quiet => {}
        }
    }

    /// Ends the line with what came out.
    pub fn done(self, bytes: u64) {
        self.bar.finish_and_clear();
        if self.detail == Detail::Quiet {
            return;
        }
        eprintln!("{}: built in {}, {} MB", self.title, HumanDuration(self.started.elapsed()), bytes / 1_000_000);
    }
}

/// A component that is up to date already.
pub fn fresh(detail: Detail, number: usize, total: usize, name: &str, version: &str) {
    if detail != Detail::Quiet {
        eprintln!("[{number}/{total}] {name} {version}: up to date");
    }
}
