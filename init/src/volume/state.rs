//! How a volume is opened, as a state machine. The whole table is printed to `golden/table.txt`.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The disk has no such partition.
    Missing,
    /// `made`: the partition table says that a file system was made here once.
    Closed {
        made: bool,
    },
    /// Modules that mkfs' choices depend on are being loaded.
    Preparing,
    /// mkfs runs.
    Making,
    /// The partition table is told that the file system is made.
    Marking,
    /// e2fsck -p runs.
    Checking,
    /// e2fsck -y runs.
    Repairing,
    Mounting,
    /// resize2fs runs, on the mounted file system.
    Growing,
    Open,
    /// It cannot be opened, and is left as it is.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is wanted.
    Open,
    /// What the last effect began has come to an end.
    Done(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Good,
    /// A check found what it may not repair by itself.
    Damaged,
    Failed,
}

/// What the event loop must do. All but `Report` come back as `Done`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    LoadModules,
    Make,
    Mark,
    Check,
    Repair,
    Mount,
    /// Where the partition is larger than the file system.
    Grow,
    /// Answer those who wait.
    Report,
}

use Outcome::*;
use State::*;

/// What follows from an event in a state.
pub fn next(state: State, event: Event) -> (State, Option<Effect>) {
    match (state, event) {
        (Missing | Open | Broken, Event::Open) => (state, Some(Effect::Report)),
        (Closed { made: false }, Event::Open) => (Preparing, Some(Effect::LoadModules)),
        // Made once: nobody makes it again, whatever it looks like.
        (Closed { made: true }, Event::Open) => (Checking, Some(Effect::Check)),
        (Preparing | Making | Marking | Checking | Repairing | Mounting | Growing, Event::Open) => (state, None),

        (Preparing, Event::Done(Good | Damaged | Failed)) => (Making, Some(Effect::Make)),
        (Making, Event::Done(Good)) => (Marking, Some(Effect::Mark)),
        (Marking, Event::Done(Good)) => (Mounting, Some(Effect::Mount)),
        (Checking, Event::Done(Good)) => (Mounting, Some(Effect::Mount)),
        (Checking, Event::Done(Damaged)) => (Repairing, Some(Effect::Repair)),
        (Repairing, Event::Done(Good)) => (Mounting, Some(Effect::Mount)),
        (Mounting, Event::Done(Good)) => (Growing, Some(Effect::Grow)),
        // A file system that did not grow is a small one, not a broken one.
        (Growing, Event::Done(Good | Damaged | Failed)) => (Open, Some(Effect::Report)),
        (Making | Marking | Repairing | Mounting, Event::Done(Damaged | Failed)) => (Broken, Some(Effect::Report)),
        (Checking, Event::Done(Failed)) => (Broken, Some(Effect::Report)),

        (Missing | Closed { .. } | Open | Broken, Event::Done(Good | Damaged | Failed)) => (state, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    const STATES: [State; 12] = [
        Missing,
        Closed { made: false },
        Closed { made: true },
        Preparing,
        Making,
        Marking,
        Checking,
        Repairing,
        Mounting,
        Growing,
        Open,
        Broken,
    ];
    const EVENTS: [Event; 4] = [Event::Open, Event::Done(Good), Event::Done(Damaged), Event::Done(Failed)];

    #[test]
    fn table_golden() {
        let mut text = String::from("A pair that is not listed changes nothing and has no effect.\n");
        for state in STATES {
            let _ = writeln!(text, "\n{state:?}");
            for event in EVENTS {
                let (to, effect) = next(state, event);
                if to != state || effect.is_some() {
                    let effect = effect.map_or(String::new(), |effect| format!("{effect:?}"));
                    let _ = writeln!(text, "  {:<16} -> {:<12} {effect}", format!("{event:?}"), format!("{to:?}"));
                }
            }
        }
        crate::golden::check("volume/golden/table.txt", &text);
    }

    /// No path leads from a volume that was made once to mkfs.
    #[test]
    fn what_was_made_once_is_never_made_again() {
        let mut reached = vec![Closed { made: true }];
        let mut todo = reached.clone();
        while let Some(state) = todo.pop() {
            for event in EVENTS {
                let (to, effect) = next(state, event);
                assert_ne!(effect, Some(Effect::Make), "{state:?} {event:?}");
                if !reached.contains(&to) {
                    reached.push(to);
                    todo.push(to);
                }
            }
        }
        assert!(reached.contains(&Open) && reached.contains(&Broken));
    }
}
