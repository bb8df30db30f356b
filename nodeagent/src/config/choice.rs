//! Which generation is put in force at boot.

use std::collections::BTreeSet;

use super::generations::Current;
use crate::state_record::Unreadable;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// No config was ever in force.
    Nothing,
    Use {
        generation: u64,
        because: Because,
    },
    /// There was one, and none that is left can be used.
    Unusable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// `current` names it.
    Current,
    /// `current` names one that was tried in an earlier boot and never confirmed.
    TrialEndedByReboot,
    /// What should be in force cannot be used: this is the newest before it that can.
    Broken,
    /// The same because a newer release wrote it: it stays what should be in force, for when that release runs again.
    Newer,
}

/// Whether a generation can be in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    Yes,
    No,
    /// A newer release wrote it.
    Newer,
}

impl Because {
    pub fn word(self) -> &'static str {
        match self {
            Because::Current => "Loaded",
            Because::TrialEndedByReboot => "Reverted",
            Because::Broken => "Damaged",
            Because::Newer => "Newer",
        }
    }

    pub fn message(self, generation: u64) -> String {
        match self {
            Because::Current => format!("machine config: generation {generation}"),
            Because::TrialEndedByReboot => format!("machine config: the reboot ended a trial, back to generation {generation}"),
            Because::Broken => format!("machine config: the current generation is damaged, using generation {generation}"),
            Because::Newer => {
                format!("machine config: a newer release wrote the current generation, using generation {generation} in this boot")
            }
        }
    }
}

/// Decides. `identified` tells whether the machine was ever configured, should `current` be gone.
pub fn choose(
    current: &anyhow::Result<Option<Current>>,
    numbers: &BTreeSet<u64>,
    usable: impl Fn(u64) -> Usable,
    identified: bool,
    boot_id: &str,
) -> Choice {
    let (wanted, because) = match current {
        Ok(None) if !identified => return Choice::Nothing,
        Ok(Some(current)) => match &current.trial {
            Some(trial) if trial.boot_id != boot_id => (trial.fallback, Because::TrialEndedByReboot),
            _ => (current.generation, Because::Current),
        },
        Err(error) if Unreadable::is_newer(error) => (u64::MAX, Because::Newer),
        Ok(None) | Err(_) => (u64::MAX, Because::Broken),
    };
    let because = match numbers.contains(&wanted).then(|| usable(wanted)) {
        Some(Usable::Yes) => return Choice::Use { generation: wanted, because },
        Some(Usable::Newer) => Because::Newer,
        None if because == Because::Newer => Because::Newer,
        Some(Usable::No) | None => Because::Broken,
    };
    let older = numbers.range(..wanted).rev().copied().find(|number| usable(*number) == Usable::Yes);
    older.map_or(Choice::Unusable, |generation| Choice::Use { generation, because })
}

#[cfg(test)]
mod tests {
    use super::super::generations::Trial;
    use super::*;

    fn decide(current: anyhow::Result<Option<Current>>, good: &[u64], identified: bool) -> Choice {
        let usable = |number| if good.contains(&number) { Usable::Yes } else { Usable::No };
        choose(&current, &BTreeSet::from([1, 2, 3]), usable, identified, "this boot")
    }

    fn tried(generation: u64, boot_id: &str) -> anyhow::Result<Option<Current>> {
        let trial = Trial { fallback: 1, boot_id: boot_id.to_owned(), deadline_since_boot_milliseconds: 0, revert_at: 0 };
        Ok(Some(Current::tried(generation, Some(trial))))
    }

    #[test]
    fn cases() {
        let using = |generation, because| Choice::Use { generation, because };
        let lasting = |generation| Ok(Some(Current::lasting(generation)));
        assert_eq!(decide(lasting(3), &[1, 2, 3], true), using(3, Because::Current));
        assert_eq!(decide(lasting(3), &[1], true), using(1, Because::Broken));
        assert_eq!(decide(lasting(2), &[1, 3], true), using(1, Because::Broken));
        assert_eq!(decide(lasting(9), &[2], true), using(2, Because::Broken));
        assert_eq!(decide(lasting(3), &[], true), Choice::Unusable);
        assert_eq!(decide(tried(3, "this boot"), &[1, 2, 3], true), using(3, Because::Current));
        assert_eq!(decide(tried(3, "boot before"), &[1, 2, 3], true), using(1, Because::TrialEndedByReboot));
        assert_eq!(decide(tried(3, "boot before"), &[3], true), Choice::Unusable);
        assert_eq!(decide(Ok(None), &[1, 2, 3], false), Choice::Nothing);
        assert_eq!(decide(Ok(None), &[1, 2], true), using(2, Because::Broken));
        assert_eq!(decide(Err(anyhow::anyhow!("half a record")), &[2], false), using(2, Because::Broken));
    }

    #[test]
    fn what_a_newer_release_wrote_is_no_damage() {
        let newer = Unreadable::Newer { path: "current".into(), found: 2, known: 1 };
        assert_eq!(decide(Err(newer.into()), &[1, 2], true), Choice::Use { generation: 2, because: Because::Newer });
        let usable = |number| if number == 3 { Usable::Newer } else { Usable::Yes };
        let chosen = choose(&Ok(Some(Current::lasting(3))), &BTreeSet::from([1, 2, 3]), usable, true, "this boot");
        assert_eq!(chosen, Choice::Use { generation: 2, because: Because::Newer });
        let none = choose(&Ok(Some(Current::lasting(3))), &BTreeSet::from([3]), usable, true, "this boot");
        assert_eq!(none, Choice::Unusable);
    }
}
