//! What `image-build components` shows while it builds: a living line on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Progress of one component.
#[derive(Debug)]
pub struct Progress {
    title: String,
    bar: ProgressBar,
    started: Instant,
    live: bool,
}

impl Progress {
    /// Announces component number `number` of `total`.
    pub fn start(number: usize, total: usize, name: &str, version: &str) -> Self {
        let title = format!("[{number}/{total}] {name} {version}");
        let live = std::io::stderr().is_terminal();
        let bar = if live { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {pos} packages, {elapsed}  {wide_msg:.dim}") {
            bar.set_style(style);
        }
        bar.set_prefix(title.clone());
        bar.enable_steady_tick(Duration::from_millis(200));
        if !live {
            eprintln!("{title}: building");
        }
        Self { title, bar, started: Instant::now(), live }
    }

    /// One more package is being compiled.
    pub fn package(&self, name: &str) {
        self.bar.inc(1);
        self.bar.set_message(name.to_owned());
    }

    /// Go said something, such as which module it downloads.
    pub fn note(&self, line: &str) {
        if self.live {
            self.bar.set_message(line.to_owned());
        } else if line.starts_with("go: downloading ") {
            eprintln!("{}: {line}", self.title);
        }
    }

    /// Ends the line with what came out.
    pub fn done(self, bytes: u64) {
        self.bar.finish_and_clear();
        eprintln!("{}: built in {}, {} MB", self.title, HumanDuration(self.started.elapsed()), bytes / 1_000_000);
    }
}

/// A component that is up to date already.
pub fn fresh(number: usize, total: usize, name: &str, version: &str) {
    eprintln!("[{number}/{total}] {name} {version}: up to date");
}
