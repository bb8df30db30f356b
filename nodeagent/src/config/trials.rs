//! Trials: configs that go away by themselves unless somebody confirms them in time.

use std::sync::Arc;
use std::time::Duration;

use super::Configs;
use super::generations::{Current, Trial};
use crate::clock::wall_seconds;
use crate::refusal::Refusal;

/// The longest that a config may be tried.
const MAX_TRIAL: Duration = Duration::from_secs(24 * 3600);

impl Configs {
    /// Makes the config that is tried the lasting one; none is tried: nothing happens.
    pub async fn confirm(&self) -> Result<u64, Refusal> {
        let _busy = self.busy.lock().await;
        let generation = self.in_force()?;
        if self.trial.borrow().is_some() {
            self.point(Current::lasting(generation)).await?;
            self.trial.send_replace(None);
            self.node.events.emit(format!("config/{generation}"), "Confirmed", format!("generation {generation} lasts"));
        }
        Ok(generation)
    }

    /// Ends trials whose time is over, for as long as the agent lives.
    pub async fn end_trials(self: Arc<Configs>) {
        let mut trials = self.trial.subscribe();
        loop {
            let trial = trials.borrow_and_update().clone();
            let Some(trial) = trial else {
                if trials.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.at(trial.deadline_since_boot())) => {
                    if let Err(error) = self.revert(&trial).await {
                        tracing::error!("reverting to generation {}: {error}", trial.fallback);
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                changed = trials.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn revert(&self, trial: &Trial) -> Result<(), Refusal> {
        let _busy = self.busy.lock().await;
        if self.trial.borrow().as_ref() != Some(trial) {
            return Ok(());
        }
        let tried = self.in_force()?;
        let config = self.read(trial.fallback).await?.config;
        self.point(Current::lasting(trial.fallback)).await?;
        self.trial.send_replace(None);
        let message = format!("generation {tried} was not confirmed in time: back to generation {}", trial.fallback);
        self.node.events.emit(format!("config/{tried}"), "Reverted", &message);
        self.node.console.print(&message);
        self.enforce(trial.fallback, config);
        Ok(())
    }

    /// A trial goes back to what lasted before it, also when one trial follows another. The very first config has nothing to go back to.
    pub(super) fn trial_of(&self, revert_after: Duration) -> Option<Trial> {
        let fallback = self.trial.borrow().as_ref().map(|trial| trial.fallback).or_else(|| self.in_force().ok())?;
        let deadline = self.clock.since_boot() + revert_after;
        Some(Trial {
            fallback,
            boot_id: self.clock.boot_id.clone(),
            deadline_since_boot_milliseconds: deadline.as_millis() as u64,
            revert_at: wall_seconds() + revert_after.as_secs(),
        })
    }
}

/// How long a config is tried, checked.
pub fn length(wanted: Duration) -> Result<Duration, Refusal> {
    if wanted.is_zero() || wanted > MAX_TRIAL {
        let text = format!("{} seconds; expected more than 0 and at most {} (24 hours)", wanted.as_secs_f64(), MAX_TRIAL.as_secs());
        return Err(Refusal::field("revert_after", text));
    }
    Ok(wanted)
}
