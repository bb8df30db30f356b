//! The machine's own screen: the dashboard, on a virtual terminal of its own.
//!
//! Whoever stands before the machine sees how it is and can change nothing: no key is read. The dashboard is on the second terminal, and in front; on the
//! first one (Alt+F1) stay the lines of kernel, init and agent, which init keeps there whichever is in front. Logs are not shown: they may hold
//! what only somebody with a certificate may read.
//!
//! reads: machine config, stage, health, services, events, usage, the console's last lines

mod terminal;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::v1::StreamMetricsRequest;
use dashboard::draw::draw;
use dashboard::facts::{Facts, ServiceSeen, Told};
use machine::Root;
use machine::service::ServiceStatus;
use ratatui::Terminal;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::addresses::{endpoints, reachable};
use crate::node::Node;
use crate::server;
use crate::store::Resource;
use crate::usage::{Telling, Usage};
use terminal::{VirtualTerminal, bring_forward};

/// Where kernel, init and agent write, and where the dashboard is.
const LINES: u8 = 1;
const DASHBOARD: u8 = 2;
const FOOT: &str = "Alt+F1: what the kernel and the machine's programs say   Alt+F2: this";

/// The least time between two pictures.
const PAUSE: Duration = Duration::from_secs(1);
/// How old figures may be: nobody tells of them.
const FIGURES: Duration = Duration::from_secs(2);
/// When to look again for a screen, or whether it works again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Shows the dashboard for as long as the agent lives, while the machine has a screen and its config wants it.
pub async fn follow(node: Node, usage: Usage) {
    let mut config = node.watch_config();
    loop {
        config.mark_unchanged();
        if is_wanted(&node)
            && has_screen(&node.root)
            && let Err(error) = show(&node, &usage, &device(&node.root, DASHBOARD), &device(&node.root, LINES)).await
        {
            tracing::warn!("showing the dashboard on the screen: {error}");
        }
        if let Ok(Err(_)) = timeout(LOOK_AGAIN, config.changed()).await {
            return;
        }
    }
}

/// A machine without a config shows who it is.
fn is_wanted(node: &Node) -> bool {
    node.config().is_none_or(|applied| applied.config.machine.console.dashboard)
}

fn device(root: &Root, terminal: u8) -> PathBuf {
    root.path(&format!("/dev/tty{terminal}"))
}

/// Whether virtual terminals are shown anywhere: without a screen the kernel binds them to its dummy (Documentation/driver-api/console.rst).
fn has_screen(root: &Root) -> bool {
    let consoles = fs::read_dir(root.path("/sys/class/vtconsole")).into_iter().flatten().flatten();
    let said = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    consoles.map(|entry| entry.path()).any(|path| said(path.join("bind")).trim() == "1" && !said(path.join("name")).contains("dummy"))
}

/// Draws until the config does not want it any longer.
async fn show(node: &Node, usage: &Usage, device: &Path, lines: &Path) -> io::Result<()> {
    let mut screen = Screen::begin(device, lines)?;
    let mut seen = Seen::new();
    let (mut board, mut stages, mut events) = (node.store.revision(), node.watch_stage(), node.events.newest());
    let mut config = node.watch_config();
    while is_wanted(node) {
        let begun = Instant::now();
        board.mark_unchanged();
        stages.mark_unchanged();
        events.mark_unchanged();
        config.mark_unchanged();
        seen.look(node, usage, begun);
        screen.draw(&seen.facts).await?;
        let changed = tokio::select! {
            changed = board.changed() => changed,
            changed = stages.changed() => changed,
            changed = events.changed() => changed,
            changed = config.changed() => changed,
            () = sleep(FIGURES) => Ok(()),
        };
        if changed.is_err() {
            break;
        }
        sleep_until(begun + PAUSE).await;
    }
    Ok(())
}

/// What the picture is of, learnt from the agent itself.
struct Seen {
    facts: Facts,
    telling: Telling,
    next_event: u64,
    figures_at: Option<Instant>,
}

impl Seen {
    fn new() -> Seen {
        let mut facts = Facts::default();
        facts.foot = Some(FOOT.to_owned());
        Seen { facts, telling: Telling::new(&StreamMetricsRequest::default()), next_event: 0, figures_at: None }
    }

    fn look(&mut self, node: &Node, usage: &Usage, now: Instant) {
        let facts = &mut self.facts;
        facts.node = endpoints(&reachable(&node.store), api::PORT);
        facts.notes = node.console.last();
        facts.learn(Told::Version(server::version(node)));
        facts.learn(Told::Health(server::report(node)));
        let services = node.store.list(ServiceStatus::KIND).into_iter();
        facts.services = services
            .map(|service| {
                let state = service.value["state"].as_str().unwrap_or_default().to_owned();
                (service.name, ServiceSeen { state, restarts: service.value["restarts"].as_u64().unwrap_or_default() })
            })
            .collect();
        while let Some(event) = node.events.next(self.next_event) {
            self.next_event = event.number + 1;
            facts.learn(Told::Event(server::event(event)));
        }
        if self.figures_at.is_none_or(|at| now - at >= FIGURES) {
            self.figures_at = Some(now);
            let (snapshot, names) = usage.newest();
            facts.learn(Told::Usage(Box::new(self.telling.next(&snapshot, &names))));
        }
    }
}

/// The dashboard's terminal in front; the lines' again when it goes.
struct Screen {
    terminal: Terminal<VirtualTerminal>,
    lines: PathBuf,
}

impl Screen {
    fn begin(device: &Path, lines: &Path) -> io::Result<Screen> {
        let mut terminal = Terminal::new(VirtualTerminal::open(device)?)?;
        terminal.clear()?;
        bring_forward(DASHBOARD, device)?;
        Ok(Screen { terminal, lines: lines.to_owned() })
    }

    /// Where the terminal takes nothing, the next picture is a whole one again.
    async fn draw(&mut self, facts: &Facts) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, facts))?;
        if self.terminal.backend_mut().write(PAUSE).await? {
            return Ok(());
        }
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The agent goes: what comes now, a shutdown most of all, is told in lines. Nobody is left who could be told that it failed.
        let _ = bring_forward(LINES, &self.lines);
    }
}
