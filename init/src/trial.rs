//! The trial of an image, as a state machine: while the boot loader counts the tries of what was booted, somebody must vouch for the boot,
//! or init restarts the machine. The whole table is printed to `golden/table.txt`.

use std::time::Duration;

use machine::protocol::Proof;

/// So long after kernel entry nobody has to vouch: the agent comes up in that time, after a file system check as well.
pub const FREE: Duration = Duration::from_secs(5 * 60);
/// So far ahead one word reaches at most.
pub const FARTHEST: Duration = Duration::from_secs(60 * 60);
/// What the shutdown is put down to when nobody vouches any more.
pub const REASON: &str = "the image on trial was not proven good in time";

/// Times are since kernel entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The image is known to be good, before this boot or by now.
    Proven,
    /// Somebody vouches for the boot until then.
    VouchedFor { until: Duration },
    /// That time is over: nothing is believed any more.
    RanOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The agent says how far the proof has come.
    Said { proof: Proof, now: Duration },
    /// Time has passed.
    Woke { now: Duration },
}

/// What the event loop must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// End the boot in order; the watchdog is the net below.
    Restart,
}

use State::*;

/// How a boot begins.
pub fn begin(counted: bool) -> State {
    if counted { VouchedFor { until: FREE } } else { Proven }
}

/// What follows from an event in a state.
pub fn next(state: State, event: Event) -> (State, Option<Effect>) {
    match (state, event) {
        (Proven, Event::Said { .. } | Event::Woke { .. }) => (Proven, None),
        (VouchedFor { until }, Event::Said { now, .. } | Event::Woke { now }) if until <= now => (RanOut, Some(Effect::Restart)),
        (VouchedFor { .. }, Event::Said { proof: Proof::Good, .. }) => (Proven, None),
        // The last word counts: it may also shorten what the one before has promised.
        (VouchedFor { .. }, Event::Said { proof: Proof::Pending { within }, now }) => {
            (VouchedFor { until: now.saturating_add(within.min(FARTHEST)).max(FREE) }, None)
        }
        (VouchedFor { until }, Event::Woke { .. }) => (VouchedFor { until }, None),
        (RanOut, Event::Said { .. } | Event::Woke { .. }) => (RanOut, None),
    }
}

impl State {
    /// When to wake it.
    pub fn deadline(self) -> Option<Duration> {
        match self {
            VouchedFor { until } => Some(until),
            Proven | RanOut => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    const fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    #[test]
    fn table_golden() {
        let pending = |within| Proof::Pending { within: minutes(within) };
        let mut text =
            format!("Minutes since kernel entry. A counted boot begins in {}, any other in {}.\n", name(begin(true)), name(begin(false)));
        for state in [Proven, VouchedFor { until: FREE }, VouchedFor { until: minutes(20) }, RanOut] {
            let _ = writeln!(text, "\n{}", name(state));
            for now in [1, 10, 20] {
                let now_is = minutes(now);
                let events = [
                    ("agent: 2 minutes more".to_owned(), Event::Said { proof: pending(2), now: now_is }),
                    ("agent: 3 hours more".to_owned(), Event::Said { proof: pending(180), now: now_is }),
                    ("agent: good".to_owned(), Event::Said { proof: Proof::Good, now: now_is }),
                    ("time passes".to_owned(), Event::Woke { now: now_is }),
                ];
                for (what, event) in events {
                    let (to, effect) = next(state, event);
                    let effect = effect.map_or(String::new(), |effect| format!("  {effect:?}"));
                    let _ = writeln!(text, "  at {now:<2}  {what:<22} -> {}{effect}", name(to));
                }
            }
        }
        crate::golden::check("trial/golden/table.txt", &text);
    }

    fn name(state: State) -> String {
        match state {
            Proven => "proven".to_owned(),
            VouchedFor { until } => format!("vouched for until {}", until.as_secs() / 60),
            RanOut => "ran out".to_owned(),
        }
    }

    proptest! {
        /// Whatever the agent says, short of `Good`, and however long: when it falls silent, the machine restarts within an hour of its
        /// last word, or when the free minutes are over, and it restarts once.
        #[test]
        fn silence_ends_in_one_restart(words in proptest::collection::vec((0_u64..4000, 0_u64..100_000), 0..50)) {
            let (mut state, mut now, mut restarts) = (begin(true), Duration::ZERO, 0);
            let mut take = |state: &mut State, event| {
                let (to, effect) = next(*state, event);
                *state = to;
                restarts += usize::from(effect.is_some());
            };
            for (pause, within) in words {
                now += Duration::from_secs(pause);
                take(&mut state, Event::Said { proof: Proof::Pending { within: Duration::from_secs(within) }, now });
            }
            let silence = (now + FARTHEST).max(FREE);
            if let Some(deadline) = state.deadline() {
                prop_assert!(deadline <= silence);
                take(&mut state, Event::Woke { now: deadline });
            }
            take(&mut state, Event::Woke { now: silence });
            take(&mut state, Event::Said { proof: Proof::Good, now: silence });
            prop_assert_eq!((state, restarts), (RanOut, 1));
        }
    }
}
