//! How far an upgrade or a rollback has come: the words of the machine's records, its API and its users.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Chunks are being written into the slot; it can be gone on with at any time.
    Writing,
    /// The slot is read back.
    Verifying,
    /// All is there, and the next boot tries it, whenever that comes.
    Ready,
    /// The same, and the reboot was asked for.
    Booting,
    /// The new image runs; the health gate decides.
    Proving,
    /// It is good: what the machine runs from now on.
    Blessed,
    /// The machine fell back, or is about to.
    Failed,
    /// Another update, or a rollback, came before it was ready.
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Upgrade,
    Rollback,
}

impl Phase {
    pub const ALL: [Phase; 8] =
        [Phase::Writing, Phase::Verifying, Phase::Ready, Phase::Booting, Phase::Proving, Phase::Blessed, Phase::Failed, Phase::Cancelled];

    /// The word that users see.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Writing => "writing",
            Phase::Verifying => "verifying",
            Phase::Ready => "ready",
            Phase::Booting => "booting",
            Phase::Proving => "proving",
            Phase::Blessed => "blessed",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more comes of it.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Blessed | Phase::Failed | Phase::Cancelled)
    }
}

impl Kind {
    /// The word that users see.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Upgrade => "upgrade",
            Kind::Rollback => "rollback",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_written_as_it_is_called() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).expect("a word"), phase.name());
        }
        for kind in [Kind::Upgrade, Kind::Rollback] {
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.name());
        }
    }
}
