//! When pressure begins and when it is over: begun by the first event of the kernel's, over once there was none for as long as calm takes. The
//! kernel tells of it once a window for as long as it goes on.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Watched since then: what went before is not known.
    Settling {
        since: Instant,
    },
    Calm,
    Raised {
        since: Instant,
        last: Instant,
    },
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Raised,
    /// After it had lasted so long; none of what an agent before this one may have seen.
    Lowered(Option<Duration>),
}

/// Tasks stood still for as long as the threshold says.
pub fn stalled(state: State, now: Instant) -> (State, Option<Edge>) {
    match state {
        State::Settling { .. } | State::Calm => (State::Raised { since: now, last: now }, Some(Edge::Raised)),
        State::Raised { since, .. } => (State::Raised { since, last: now }, None),
    }
}

/// Time went by.
pub fn passed(state: State, now: Instant, calm: Duration) -> (State, Option<Edge>) {
    match (state, ends(state, calm)) {
        (State::Raised { since, last }, Some(end)) if now >= end => (State::Calm, Some(Edge::Lowered(Some(last - since)))),
        (State::Settling { .. }, Some(end)) if now >= end => (State::Calm, Some(Edge::Lowered(None))),
        (state, _) => (state, None),
    }
}

/// When calm is there unless something happens; none where it is there already.
pub fn ends(state: State, calm: Duration) -> Option<Instant> {
    match state {
        State::Settling { since: last } | State::Raised { last, .. } => Some(last + calm),
        State::Calm => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALM: Duration = Duration::from_secs(60);

    #[test]
    fn it_begins_at_once_and_ends_after_a_calm_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (state, edge) = stalled(State::Calm, at(10));
        assert_eq!((state, edge), (State::Raised { since: at(10), last: at(10) }, Some(Edge::Raised)));
        let (state, edge) = stalled(state, at(60));
        assert_eq!(edge, None, "it goes on");
        assert_eq!(passed(state, at(119), CALM), (state, None));
        assert_eq!(ends(state, CALM), Some(at(120)));
        assert_eq!(passed(state, at(120), CALM), (State::Calm, Some(Edge::Lowered(Some(Duration::from_secs(50))))));
        assert_eq!(passed(State::Calm, at(900), CALM), (State::Calm, None));
    }

    #[test]
    fn an_agent_that_starts_takes_nothing_for_calm_before_its_time() {
        let start = Instant::now();
        let state = State::Settling { since: start };
        assert_eq!(passed(state, start + CALM / 2, CALM), (state, None));
        assert_eq!(passed(state, start + CALM, CALM), (State::Calm, Some(Edge::Lowered(None))));
        assert!(matches!(stalled(state, start), (State::Raised { .. }, Some(Edge::Raised))));
    }

    proptest! {
        /// However events fall, it changes at most twice in a calm time: once up, once down.
        #[test]
        fn it_does_not_flutter(gaps in proptest::collection::vec(0..90_000_u64, 1..200)) {
            let (mut now, mut state, mut raised) = (Instant::now(), State::Calm, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                state = passed(state, now, CALM).0;
                let (next, edge) = stalled(state, now);
                state = next;
                if edge.is_some() {
                    raised.push(now);
                }
            }
            for pair in raised.windows(2) {
                prop_assert!(pair[1] - pair[0] >= CALM, "{:?}", pair[1] - pair[0]);
            }
        }
    }
}
