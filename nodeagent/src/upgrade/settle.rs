//! What became of an upgrade while the agent was away: decided once, when it starts.

use machine::disk::Slot;

use super::esp::Entry;
use super::phase::Phase;
use super::records::{Kind, Record};

#[derive(Debug, Clone)]
pub struct Seen {
    pub running: Slot,
    /// dm-verity root hash of the running root, hex.
    pub root_hash: String,
    /// Whether the boot loader counts the running slot's tries.
    pub counted: bool,
    /// The newest record.
    pub record: Option<Record>,
    /// The entry of the record's slot that counts.
    pub entry: Option<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is under way.
    Nothing,
    /// It can be gone on with: offer the update again.
    Resumable,
    /// A rollback that never got to its entry: nothing was changed.
    NeverBegun,
    /// The next boot tries it.
    Staged,
    /// It runs, on trial.
    Arrived,
    /// It runs and is good; the record did not get to say so.
    Blessed,
    /// It was tried and does not run, after so many boots.
    FellBack { boots: u32 },
}

pub fn decide(seen: &Seen) -> Verdict {
    let Some(record) = &seen.record else { return Verdict::Nothing };
    match record.phase {
        Phase::Blessed | Phase::Failed | Phase::Cancelled => Verdict::Nothing,
        Phase::Writing | Phase::Verifying => match record.kind {
            Kind::Upgrade => Verdict::Resumable,
            Kind::Rollback => Verdict::NeverBegun,
        },
        Phase::Ready | Phase::Booting | Phase::Proving if seen.running == record.to_slot => {
            match (seen.root_hash == record.to_root_hash, seen.counted) {
                (true, true) => Verdict::Arrived,
                (true, false) => Verdict::Blessed,
                // Somebody wrote another image there: what the record speaks of is gone.
                (false, _) => Verdict::FellBack { boots: record.boots },
            }
        }
        Phase::Proving => Verdict::FellBack { boots: record.boots },
        Phase::Ready | Phase::Booting => flipped(record, seen.entry.as_ref()),
    }
}

/// The record says that the entry was to be written, and the other slot runs.
fn flipped(record: &Record, entry: Option<&Entry>) -> Verdict {
    match (entry.and_then(|entry| entry.tries), record.kind) {
        (Some(tries), _) if tries.done > 0 || tries.left == 0 => Verdict::FellBack { boots: tries.done },
        (Some(_), _) => Verdict::Staged,
        (None, Kind::Upgrade) => Verdict::Resumable,
        (None, Kind::Rollback) => Verdict::NeverBegun,
    }
}

#[cfg(test)]
mod tests {
    use super::super::esp::Tries;
    use super::super::fixtures::record;
    use super::*;

    fn seen(running: Slot, counted: bool, kind: Kind, phase: Phase, tries: Option<Tries>) -> Seen {
        let mut record = record(1);
        (record.kind, record.phase) = (kind, phase);
        let root_hash = if running == record.to_slot { record.to_root_hash.clone() } else { "00".repeat(32) };
        let entry = tries.map(|tries| Entry {
            slot: Slot::B,
            tries: Some(tries),
            sequence: 2,
            title: String::new(),
            usable: true,
            file_name: String::new(),
        });
        Seen { running, root_hash, counted, record: Some(record), entry }
    }

    const FRESH: Option<Tries> = Some(Tries { left: 3, done: 0 });
    const TRIED: Option<Tries> = Some(Tries { left: 1, done: 2 });
    const USED_UP: Option<Tries> = Some(Tries { left: 0, done: 3 });

    #[test]
    fn cases() {
        use Slot::{A, B};
        let decided = |running, counted, phase, tries| decide(&seen(running, counted, Kind::Upgrade, phase, tries));
        for phase in [Phase::Writing, Phase::Verifying] {
            assert_eq!(decided(A, false, phase, None), Verdict::Resumable);
            assert_eq!(decide(&seen(A, false, Kind::Rollback, phase, None)), Verdict::NeverBegun);
        }
        for phase in [Phase::Ready, Phase::Booting] {
            assert_eq!(decided(A, false, phase, None), Verdict::Resumable, "the cut came before the flip");
            assert_eq!(decided(A, false, phase, FRESH), Verdict::Staged);
            assert_eq!(decided(A, false, phase, TRIED), Verdict::FellBack { boots: 2 });
            assert_eq!(decided(A, false, phase, USED_UP), Verdict::FellBack { boots: 3 });
            assert_eq!(decide(&seen(A, false, Kind::Rollback, phase, None)), Verdict::NeverBegun);
        }
        for phase in [Phase::Ready, Phase::Booting, Phase::Proving] {
            assert_eq!(decided(B, true, phase, TRIED), Verdict::Arrived);
            assert_eq!(decided(B, false, phase, None), Verdict::Blessed);
        }
        assert_eq!(decided(A, false, Phase::Proving, USED_UP), Verdict::FellBack { boots: 0 });
        for phase in [Phase::Blessed, Phase::Failed, Phase::Cancelled] {
            assert_eq!(decided(A, false, phase, USED_UP), Verdict::Nothing);
        }
        let foreign = Seen { root_hash: "11".repeat(32), ..seen(B, true, Kind::Upgrade, Phase::Booting, TRIED) };
        assert_eq!(decide(&foreign), Verdict::FellBack { boots: 0 });
        assert_eq!(decide(&Seen { record: None, ..foreign }), Verdict::Nothing);
    }
}
