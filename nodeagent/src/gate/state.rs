//! Whether the image that was booted is good: a state machine that is told what the checks say and when. It knows no clock and does nothing.

use std::time::Duration;

/// How long one word to init lasts. An agent that hangs or dies says no other, and init reboots.
pub const VOUCHED_FOR: Duration = Duration::from_secs(120);
/// How often the word is given again. The first one comes this long after the agent's start, so that an agent that crashes again and again
/// vouches for nothing.
pub const VOUCH_EVERY: Duration = Duration::from_secs(30);

/// `machine.health` of the machine config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long every check must pass without a break.
    pub hold: Duration,
    /// The end of the wait, counted from the boot. An image whose checks pass by then may end its hold.
    pub deadline: Duration,
}

/// Times count from the boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Watching {
        /// Since when every check passes; `None` while one does not.
        good_since: Option<Duration>,
        /// When init was told last.
        vouched_at: Duration,
    },
    /// The image is good, for as long as it is installed.
    Blessed,
    /// The image is given up; the machine is on its way back.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A round of checks, and when it ended.
    Tick { now: Duration, seen: Vec<Observation> },
}

/// What one check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    pub check: String,
    pub verdict: Verdict,
    /// The service whose log tells more.
    pub service: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// It does not pass and need not: the cluster was out of reach before the upgrade as well.
    Excused(String),
    Failing(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell init that the machine may go on for [`VOUCHED_FOR`].
    Vouch,
    /// Make the image the one that stays.
    Bless,
    /// Go back to the image before: this check never passed for long enough. Init is vouched to once more: it ends a way down that hangs.
    GiveUp(Observation),
}

impl State {
    /// An agent that starts, also one that starts anew within the boot.
    pub fn new(now: Duration) -> State {
        State::Watching { good_since: None, vouched_at: now }
    }
}

/// The state after the event, and what is to be done. Golden: golden/gate.txt.
pub fn next(state: &State, event: Event, rules: Rules) -> (State, Vec<Effect>) {
    let Event::Tick { now, seen } = event;
    match (state, failing(seen)) {
        (State::Watching { vouched_at, .. }, Some(_)) if now < rules.deadline => watching(None, *vouched_at, now),
        (State::Watching { .. }, Some(failing)) => (State::Failed, vec![Effect::GiveUp(failing)]),
        (State::Watching { good_since, vouched_at }, None) => {
            let since = good_since.unwrap_or(now);
            if now.saturating_sub(since) >= rules.hold {
                return (State::Blessed, vec![Effect::Bless]);
            }
            watching(Some(since), *vouched_at, now)
        }
        (State::Blessed | State::Failed, _) => (state.clone(), Vec::new()),
    }
}

fn watching(good_since: Option<Duration>, vouched_at: Duration, now: Duration) -> (State, Vec<Effect>) {
    if now.saturating_sub(vouched_at) >= VOUCH_EVERY {
        return (State::Watching { good_since, vouched_at: now }, vec![Effect::Vouch]);
    }
    (State::Watching { good_since, vouched_at }, Vec::new())
}

/// The first check that fails. None passes where nothing was checked.
fn failing(seen: Vec<Observation>) -> Option<Observation> {
    if seen.is_empty() {
        let verdict = Verdict::Failing("nothing was checked".to_owned());
        return Some(Observation { check: "checks".to_owned(), verdict, service: None });
    }
    seen.into_iter().find(|observation| matches!(observation.verdict, Verdict::Failing(_)))
}

#[cfg(test)]
mod tests;
