//! The health gate: decides whether the image that is on trial is good, tells init that the wait goes on, and keeps the image or gives it up.
//!
//! reads: machine config, the upgrade's record, everything that health.rs reads   writes: gates

mod checks;
mod http;
mod observe;
mod probe;
mod reason;
mod state;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use machine::protocol::Proof;
use machine::stage::Stage;

use crate::clock::{Clock, wall_seconds};
use crate::node::Node;
use crate::power::Power;
use crate::resources::gate::GateStatus;
use crate::upgrade::Upgrades;
use checks::{Before, judge};
use observe::Observer;
pub use observe::pods_start;
use state::{Effect, Event, Observation, Rules, State, VOUCHED_FOR, Verdict, next};

/// From the end of one round of checks to the next one.
const EVERY: Duration = Duration::from_secs(5);
/// Before init is told once more what it did not take.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Gate {
    pub node: Node,
    pub upgrades: Arc<Upgrades>,
    pub power: Power,
    pub clock: Clock,
    /// Where the machine API takes connections.
    pub api: SocketAddr,
    observer: Observer,
}

impl Gate {
    pub fn new(node: Node, upgrades: Arc<Upgrades>, power: Power, clock: Clock) -> Gate {
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, api::PORT));
        Gate { node, upgrades, power, clock, api, observer: Observer::default() }
    }

    /// Runs until the image is kept or given up. In a boot that is no trial it does nothing.
    pub async fn run(mut self) {
        if !self.node.boot_facts().counted {
            return;
        }
        // An agent that starts anew may have kept the image before.
        if !self.upgrades.is_on_trial().await {
            return self.tell_good().await;
        }
        let record = self.upgrades.on_trial().await;
        // Of an image that nobody knows to have come by an upgrade, all is asked.
        self.observer.peers_before = record.as_ref().map(|record| record.overlay_peers_before.clone()).unwrap_or_default();
        let before = record.map_or(Before { reachable: true, pods_started: true }, |record| Before {
            reachable: record.cluster_reachable_before,
            pods_started: !record.pods_failed_before,
        });
        let rules = self.rules();
        let within = machine::config::Duration(rules.deadline);
        self.node.console.print(&format!("the image is on trial: it must prove good within {within} of the boot"));
        let mut state = State::new(self.clock.since_boot());
        while matches!(state, State::Watching { .. }) {
            // A machine on its way down is none to judge an image by; init ends a way down that hangs.
            if !is_leaving(self.node.stage()) {
                state = self.round(state, before).await;
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// One round of checks, and what follows; the state from before where that cannot be done.
    async fn round(&mut self, state: State, before: Before) -> State {
        let seen = judge(&self.observer.observe(&self.node, self.api, before).await);
        let rules = self.rules();
        let (to, effects) = next(&state, Event::Tick { now: self.clock.since_boot(), seen: seen.clone() }, rules);
        let mut done = Ok(());
        for effect in effects {
            done = done.and(self.carry_out(effect).await);
        }
        let reached = match done {
            Ok(()) => to,
            Err(error) => {
                tracing::error!("health gate: {error:#}");
                state
            }
        };
        self.node.store.put(GateStatus::NAME, &status(&reached, &seen, rules));
        reached
    }

    async fn carry_out(&self, effect: Effect) -> anyhow::Result<()> {
        match effect {
            Effect::Vouch => self.vouch().await,
            Effect::Bless => {
                self.upgrades.bless().await?;
                self.tell_good().await;
                Ok(())
            }
            Effect::GiveUp(failing) => {
                self.give_up(failing).await;
                Ok(())
            }
        }
    }

    /// Whatever of it fails, the machine reboots: what is left of the tries then ends as the boot loader counts.
    async fn give_up(&self, failing: Observation) {
        let booted_at = i64::try_from(wall_seconds().saturating_sub(self.clock.since_boot().as_secs())).unwrap_or(0);
        let reason = reason::of(&self.node.root, &failing, booted_at);
        if let Err(error) = self.vouch().await {
            tracing::error!("health gate: {error:#}");
        }
        let words = format!("the image on trial is not good: {}: {}", reason.check, reason.message);
        if let Err(error) = self.upgrades.fail(reason).await {
            tracing::error!("giving the image up: {error}");
        }
        self.power.leave(words).await;
    }

    async fn vouch(&self) -> anyhow::Result<()> {
        self.node.init.prove_boot(Proof::Pending { within: VOUCHED_FOR }).await
    }

    /// Nothing may keep init from hearing it: it would reboot a good image.
    async fn tell_good(&self) {
        while let Err(error) = self.node.init.prove_boot(Proof::Good).await {
            tracing::error!("telling init that the image is good: {error:#}");
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn rules(&self) -> Rules {
        let health = self.node.config().map(|applied| applied.config.machine.health.clone()).unwrap_or_default();
        Rules { hold: health.hold.0, deadline: health.deadline.0 }
    }
}

fn is_leaving(stage: Stage) -> bool {
    match stage {
        Stage::Resetting | Stage::Rebooting | Stage::ShuttingDown => true,
        Stage::Maintenance | Stage::Installing | Stage::Booting | Stage::Running | Stage::Recovery | Stage::Upgrading => false,
    }
}

fn status(state: &State, seen: &[Observation], rules: Rules) -> GateStatus {
    let told = |wanted: fn(&Verdict) -> Option<&String>| -> Vec<String> {
        seen.iter().filter_map(|one| Some(format!("{}: {}", one.check, wanted(&one.verdict)?))).collect()
    };
    let (word, good_since) = match state {
        State::Watching { good_since, .. } => ("watching", *good_since),
        State::Blessed => ("blessed", None),
        State::Failed => ("failed", None),
    };
    GateStatus {
        state: word.to_owned(),
        waits_for: told(|verdict| match verdict {
            Verdict::Failing(message) => Some(message),
            Verdict::Passed | Verdict::Excused(_) => None,
        }),
        excused: told(|verdict| match verdict {
            Verdict::Excused(message) => Some(message),
            Verdict::Passed | Verdict::Failing(_) => None,
        }),
        good_since_seconds: good_since.map(|since| since.as_secs()),
        hold_seconds: rules.hold.as_secs(),
        deadline_seconds: rules.deadline.as_secs(),
    }
}

#[cfg(test)]
mod tests;
