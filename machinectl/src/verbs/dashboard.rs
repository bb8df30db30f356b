//! `dashboard`: one machine at a glance, for as long as somebody looks.

mod keys;
mod listen;

use std::io::{IsTerminal, stdin, stdout};

use ::dashboard::draw;
use ::dashboard::facts::Facts;
use clap::Args;
use crossterm::event::{Event, EventStream};
use ratatui::DefaultTerminal;
use tokio_stream::StreamExt;

use crate::cli::World;
use crate::failure::Failure;
use crate::session::Session;
use keys::Action;
use listen::Listeners;

/// Show one machine on the whole terminal: health, pressure, services, pods, events and logs
#[derive(Debug, Args)]
#[command(
    after_help = "Keys: up and down choose a service, Tab and 1 to 4 what is shown below it (events, its log, the kernel's log, pods), \
s sorts, q quits."
)]
pub struct Dashboard {}

impl Dashboard {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        if !(stdin().is_terminal() && stdout().is_terminal()) {
            let remedy = "elsewhere, use `machinectl top --watch`, `machinectl events` or `machinectl get services -o json`";
            return Err(Failure::usage("dashboard", "it needs a terminal").remedy(remedy));
        }
        world.connection.one(None, show).await
    }
}

async fn show(session: Session) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::of("terminal", &error);
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let shown = follow(session, &mut terminal).await;
    // Before anything is said: it would be said to the screen that goes away.
    ratatui::try_restore().map_err(failed)?;
    shown.map_err(failed)
}

/// Draws whenever something was told or typed, until the user has seen enough.
async fn follow(session: Session, terminal: &mut DefaultTerminal) -> std::io::Result<()> {
    let mut facts = Facts::of(session.node.to_string());
    let mut listeners = Listeners::begin(session);
    let mut typed = EventStream::new();
    loop {
        terminal.draw(|frame| draw::draw(frame, &facts))?;
        tokio::select! {
            told = listeners.next() => {
                facts.learn(told);
                // What has come meanwhile is worth one picture, not one each.
                while let Some(told) = listeners.ready() {
                    facts.learn(told);
                }
            }
            event = typed.next() => match event {
                None => return Ok(()),
                Some(event) => {
                    let Event::Key(key) = event? else { continue };
                    match keys::action(key) {
                        Some(Action::Quit) => return Ok(()),
                        Some(Action::Change(change)) => facts.change(change),
                        None => continue,
                    }
                }
            }
        }
        listeners.follow(facts.log_wanted());
    }
}
