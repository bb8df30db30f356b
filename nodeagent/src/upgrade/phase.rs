//! The phases of an upgrade, and what leads from one to the next.

pub use machine::upgrade::Phase;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The same update is offered, or its agent starts again before the flip.
    Resumed,
    /// Start: all chunks are there.
    VerifyAsked,
    /// What was read back is not what was signed.
    VerifyFailed,
    /// The new entry is about to be written.
    Flipping,
    RebootAsked,
    /// The slot runs.
    Arrived,
    /// The health gate passed, or the boot loader does not count any more.
    Blessed,
    /// The gate failed, or the other slot runs.
    FellBack,
    /// Something else takes its place.
    Replaced,
}

#[cfg(test)]
impl Event {
    const ALL: [Event; 9] = [
        Event::Resumed,
        Event::VerifyAsked,
        Event::VerifyFailed,
        Event::Flipping,
        Event::RebootAsked,
        Event::Arrived,
        Event::Blessed,
        Event::FellBack,
        Event::Replaced,
    ];
}

/// The phase after the event; an event that has no place in a phase changes nothing. Golden: golden/phases.txt.
pub fn next(phase: Phase, event: Event) -> Phase {
    use Event::{Arrived, FellBack, Flipping, RebootAsked, Replaced, Resumed, VerifyAsked, VerifyFailed};
    use Phase::{Blessed, Booting, Cancelled, Failed, Proving, Ready, Verifying, Writing};
    match (phase, event) {
        (Writing | Verifying, Resumed | VerifyFailed) => Writing,
        (Writing | Verifying, VerifyAsked) => Verifying,
        (Verifying, Flipping) => Ready,
        (Ready | Booting, Flipping) => phase,
        // The cut came between the record and the entry: the slot is whole, and was never to be booted.
        (Ready | Booting, Resumed) => Writing,
        (Ready | Booting, RebootAsked) => Booting,
        (Ready | Booting | Proving, Arrived) => Proving,
        (Ready | Booting | Proving, Event::Blessed) => Blessed,
        (Ready | Booting | Proving, FellBack) => Failed,
        (Writing | Verifying | Ready, Replaced) => Cancelled,
        (Writing, Flipping)
        | (Writing | Verifying, RebootAsked | Arrived | Event::Blessed | FellBack)
        | (Ready | Booting, VerifyAsked | VerifyFailed)
        | (Booting, Replaced)
        | (Proving, Resumed | VerifyAsked | VerifyFailed | Flipping | RebootAsked | Replaced) => phase,
        (
            Blessed | Failed | Cancelled,
            Resumed | VerifyAsked | VerifyFailed | Flipping | RebootAsked | Arrived | Event::Blessed | FellBack | Replaced,
        ) => phase,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn table() {
        let mut table = String::new();
        for phase in Phase::ALL {
            for event in Event::ALL {
                let to = next(phase, event);
                let to = if to == phase { "-" } else { to.name() };
                writeln!(table, "{:<10} {:<13} {to}", phase.name(), format!("{event:?}")).unwrap();
            }
        }
        crate::golden::check("src/upgrade/golden/phases.txt", &table);
    }
}
