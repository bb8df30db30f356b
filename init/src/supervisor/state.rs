//! The life of a service as a state machine. The whole table is printed to `golden/table.txt`.

use machine::service::RestartPolicy;

/// Where a service is. A process exists in `Starting`, `Ready`, `Stopping` and `Killing`, and only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not wanted.
    Stopped,
    /// Wanted; other services must be ready first.
    Waiting,
    Starting,
    Ready,
    /// SIGTERM is sent.
    Stopping(Then),
    /// SIGKILL is sent.
    Killing(Then),
    /// Wanted; it ended and is started again after a wait.
    Backoff,
    /// It ended and its policy leaves it so.
    Ended,
    /// To be forgotten.
    Removed,
}

/// What follows once a process that is being stopped has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Stop,
    Start,
    Remove,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is wanted: put for the first time, or started by request.
    Start,
    Stop,
    Restart,
    /// It was put with another spec: what runs must be replaced, what a user stopped stays stopped.
    Change,
    Remove,
    /// All services of `after` are ready.
    DependenciesReady,
    BecameReady,
    Exited(Ending),
    /// SIGTERM or SIGKILL had no effect in time.
    StopDeadline,
    BackoffOver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Exit code 0.
    Clean,
    /// Another exit code, a signal, or no start at all.
    Failed,
}

/// What the event loop must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start the process. A failure to do so comes back as `Exited(Failed)`.
    Spawn,
    /// Send SIGTERM and set the stop deadline.
    Terminate,
    /// Send SIGKILL and set the deadline again.
    Kill,
    /// Kill what the process left in its cgroup, if the service stops as a whole.
    KillLeftovers,
    /// Set the wait before the next start.
    SetBackoff,
    /// The next start is one by itself: count it.
    CountRestart,
    /// A request began a new count and the shortest wait.
    ResetCount,
    Forget,
}

use Effect::*;
use Event::*;
use State::*;

/// What follows from an event in a state.
pub fn next(state: State, event: Event, policy: RestartPolicy) -> (State, Vec<Effect>) {
    match (state, event) {
        (Stopped | Ended, Start | Restart) => (Waiting, vec![ResetCount]),
        (Ended, Change) => (Waiting, vec![ResetCount]),
        (Stopped, Stop | Change) => (Stopped, vec![]),
        (Ended, Stop) => (Stopped, vec![]),

        (Waiting, Start) => (Waiting, vec![]),
        (Waiting, Restart | Change) => (Waiting, vec![ResetCount]),
        (Waiting, Stop) => (Stopped, vec![]),
        (Waiting, DependenciesReady) => (Starting, vec![Spawn]),

        (Backoff, Start | Restart | Change) => (Waiting, vec![ResetCount]),
        (Backoff, Stop) => (Stopped, vec![]),
        (Backoff, BackoffOver) => (Waiting, vec![CountRestart]),

        (Starting | Ready, Start) => (state, vec![]),
        (Starting | Ready, Stop) => (Stopping(Then::Stop), vec![Terminate]),
        (Starting | Ready, Restart | Change) => (Stopping(Then::Start), vec![Terminate]),
        (Starting | Ready, Remove) => (Stopping(Then::Remove), vec![Terminate]),
        (Starting | Ready, BecameReady) => (Ready, vec![]),
        (Starting | Ready, Exited(ending)) => match (policy, ending) {
            (RestartPolicy::Always, Ending::Clean | Ending::Failed) | (RestartPolicy::OnFailure, Ending::Failed) => {
                (Backoff, vec![KillLeftovers, SetBackoff])
            }
            (RestartPolicy::OnFailure, Ending::Clean) | (RestartPolicy::Never, Ending::Clean | Ending::Failed) => {
                (Ended, vec![KillLeftovers])
            }
        },

        (Stopping(_), Start) => (Stopping(Then::Start), vec![]),
        (Stopping(then), Stop) => (Stopping(stop_then(then)), vec![]),
        (Stopping(then), Restart) => (Stopping(restart_then(then)), vec![]),
        (Stopping(then), Change) => (Stopping(then), vec![]),
        (Stopping(_), Remove) => (Stopping(Then::Remove), vec![]),
        (Stopping(then), StopDeadline) => (Killing(then), vec![Kill]),
        (Stopping(then), Exited(Ending::Clean | Ending::Failed)) => stopped(then),

        (Killing(_), Start) => (Killing(Then::Start), vec![]),
        (Killing(then), Stop) => (Killing(stop_then(then)), vec![]),
        (Killing(then), Restart) => (Killing(restart_then(then)), vec![]),
        (Killing(then), Change) => (Killing(then), vec![]),
        (Killing(_), Remove) => (Killing(Then::Remove), vec![]),
        (Killing(then), StopDeadline) => (Killing(then), vec![Kill]),
        (Killing(then), Exited(Ending::Clean | Ending::Failed)) => stopped(then),

        (Stopped | Ended | Waiting | Backoff, Remove) => (Removed, vec![Forget]),

        // What cannot happen, or comes too late to matter, changes nothing.
        (Stopped | Ended | Waiting | Backoff, BecameReady | Exited(Ending::Clean | Ending::Failed) | StopDeadline) => (state, vec![]),
        (Stopped | Ended | Backoff, DependenciesReady) => (state, vec![]),
        (Stopped | Ended | Waiting, BackoffOver) => (state, vec![]),
        (Starting | Ready, DependenciesReady | StopDeadline | BackoffOver) => (state, vec![]),
        (Stopping(_) | Killing(_), DependenciesReady | BecameReady | BackoffOver) => (state, vec![]),
        (
            Removed,
            Start
            | Stop
            | Restart
            | Change
            | Remove
            | DependenciesReady
            | BecameReady
            | Exited(Ending::Clean | Ending::Failed)
            | StopDeadline
            | BackoffOver,
        ) => (Removed, vec![]),
    }
}

/// A process that was being stopped has ended.
fn stopped(then: Then) -> (State, Vec<Effect>) {
    match then {
        Then::Stop => (Stopped, vec![KillLeftovers]),
        Then::Start => (Waiting, vec![KillLeftovers, ResetCount]),
        Then::Remove => (Removed, vec![KillLeftovers, Forget]),
    }
}

/// A stop takes back a start, not a removal.
fn stop_then(then: Then) -> Then {
    match then {
        Then::Stop | Then::Start => Then::Stop,
        Then::Remove => Then::Remove,
    }
}

fn restart_then(then: Then) -> Then {
    match then {
        Then::Stop | Then::Start => Then::Start,
        Then::Remove => Then::Remove,
    }
}

impl State {
    /// Whether a process of the service exists.
    pub fn has_process(self) -> bool {
        match self {
            Starting | Ready | Stopping(_) | Killing(_) => true,
            Stopped | Waiting | Backoff | Ended | Removed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    const STATES: [State; 13] = [
        Stopped,
        Waiting,
        Starting,
        Ready,
        Stopping(Then::Stop),
        Stopping(Then::Start),
        Stopping(Then::Remove),
        Killing(Then::Stop),
        Killing(Then::Start),
        Killing(Then::Remove),
        Backoff,
        Ended,
        Removed,
    ];
    const EVENTS: [Event; 11] = [
        Start,
        Stop,
        Restart,
        Change,
        Remove,
        DependenciesReady,
        BecameReady,
        Exited(Ending::Clean),
        Exited(Ending::Failed),
        StopDeadline,
        BackoffOver,
    ];
    const POLICIES: [RestartPolicy; 3] = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];

    #[test]
    fn table_golden() {
        let mut text = String::from("A pair that is not listed changes nothing and has no effect.\n");
        for state in STATES {
            let _ = writeln!(text, "\n{state:?}");
            for event in EVENTS {
                let results = POLICIES.map(|policy| next(state, event, policy));
                let same = results.iter().all(|result| *result == results[0]);
                for (policy, (to, effects)) in POLICIES.iter().zip(&results).take(if same { 1 } else { 3 }) {
                    if *to == state && effects.is_empty() {
                        continue;
                    }
                    let when = if same { format!("{event:?}") } else { format!("{event:?}, restart {policy:?}") };
                    let _ = writeln!(text, "  {when:<40} -> {:<20} {effects:?}", format!("{to:?}"));
                }
            }
        }
        crate::golden::check("supervisor/golden/table.txt", &text);
    }

    fn event() -> impl Strategy<Value = Event> {
        prop::sample::select(EVENTS.to_vec())
    }

    proptest! {
        /// Whatever happens in whatever order: at most one process, and exactly in the states that say so.
        #[test]
        fn never_two_processes(events in prop::collection::vec(event(), 0..200), policy in prop::sample::select(POLICIES.to_vec())) {
            let (mut state, mut processes) = (Stopped, 0);
            for event in events {
                // A process that does not exist cannot end, and nothing else ends one.
                if matches!(event, Exited(_)) {
                    if processes == 0 { continue }
                    processes -= 1;
                }
                let (to, effects) = next(state, event, policy);
                processes += effects.iter().filter(|effect| **effect == Spawn).count();
                prop_assert!(processes <= 1);
                prop_assert_eq!(processes == 1, to.has_process(), "{:?} {:?} -> {:?}", state, event, to);
                if effects.contains(&Forget) {
                    prop_assert_eq!(processes, 0);
                }
                state = to;
            }
        }

        /// A service that is wanted and restarts always comes to run again by itself: nothing but time and ends of processes is needed.
        #[test]
        fn wanted_service_is_never_lost(events in prop::collection::vec(event(), 0..200)) {
            let policy = RestartPolicy::Always;
            let (mut state, mut wanted, mut removed) = (Stopped, false, false);
            for event in events {
                if matches!(event, Exited(_)) && !state.has_process() { continue }
                let being_removed = matches!(state, Stopping(Then::Remove) | Killing(Then::Remove) | Removed);
                match event {
                    Start if state != Removed => wanted = true,
                    Restart if !being_removed => wanted = true,
                    Stop => wanted = false,
                    Remove => wanted = false,
                    _ => {}
                }
                removed |= event == Remove;
                if event == Start && state != Removed { removed = false }
                state = next(state, event, policy).0;
            }
            for _ in 0..8 {
                let event = match state {
                    Waiting => DependenciesReady,
                    Backoff => BackoffOver,
                    Starting => BecameReady,
                    Stopping(_) => StopDeadline,
                    Killing(_) => Exited(Ending::Failed),
                    Ready | Stopped | Ended | Removed => break,
                };
                state = next(state, event, policy).0;
            }
            let expected = if removed { Removed } else if wanted { Ready } else { Stopped };
            prop_assert!(state == expected || (removed && state == Stopped), "{:?}, expected {:?}", state, expected);
        }
    }
}
