//! What becomes of etcd's quorum without one of its members: while it is away, and once it has left for good.

use super::MemberId;

/// A member that has a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voter {
    pub id: MemberId,
    pub healthy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// It has no vote: nothing changes.
    NoVote,
    /// There is no other voter.
    Alone,
    /// Of so many voters so many are healthy.
    Kept {
        voters: usize,
        healthy: usize,
    },
    Lost {
        voters: usize,
        healthy: usize,
    },
}

/// How many of so many must agree.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// While the member is away.
pub fn while_away(id: MemberId, voters: &[Voter]) -> Quorum {
    judge(id, voters, |others, _| (voters.len(), others >= majority(voters.len())))
}

/// Once the member has left. Whether it may, a majority of those of before has to agree on.
pub fn once_left(id: MemberId, voters: &[Voter]) -> Quorum {
    let left = voters.len().saturating_sub(1);
    judge(id, voters, |others, own| (left, others >= majority(left) && others + usize::from(own) >= majority(voters.len())))
}

fn judge(id: MemberId, all: &[Voter], rule: impl Fn(usize, bool) -> (usize, bool)) -> Quorum {
    let Some(own) = all.iter().find(|voter| voter.id == id) else { return Quorum::NoVote };
    if all.len() == 1 {
        return Quorum::Alone;
    }
    let healthy = all.iter().filter(|voter| voter.id != id && voter.healthy).count();
    match rule(healthy, own.healthy) {
        (voters, true) => Quorum::Kept { voters, healthy },
        (voters, false) => Quorum::Lost { voters, healthy },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of voters 1, 2, ... whether they are healthy; the first is the one that goes.
    fn voters(healthy: &[bool]) -> Vec<Voter> {
        healthy.iter().enumerate().map(|(index, healthy)| Voter { id: MemberId(index as u64 + 1), healthy: *healthy }).collect()
    }

    #[test]
    fn cases() {
        use Quorum::{Alone, Kept, Lost, NoVote};
        let kept = |voters, healthy| Kept { voters, healthy };
        let lost = |voters, healthy| Lost { voters, healthy };
        for (healthy, away, left) in [
            (&[true][..], Alone, Alone),
            (&[false], Alone, Alone),
            // Two need each other, but one can let the other go.
            (&[true, true], lost(2, 1), kept(1, 1)),
            (&[true, false], lost(2, 0), lost(1, 0)),
            // Its own yes is needed, and it says nothing.
            (&[false, true], lost(2, 1), lost(1, 1)),
            (&[true, true, true], kept(3, 2), kept(2, 2)),
            (&[false, true, true], kept(3, 2), kept(2, 2)),
            (&[true, true, false], lost(3, 1), lost(2, 1)),
            (&[true, true, true, false, true], kept(5, 3), kept(4, 3)),
            (&[true, true, true, false, false], lost(5, 2), lost(4, 2)),
            (&[true, true, true, true], kept(4, 3), kept(3, 3)),
            (&[true, true, true, false], lost(4, 2), kept(3, 2)),
        ] {
            let voters = voters(healthy);
            assert_eq!((while_away(MemberId(1), &voters), once_left(MemberId(1), &voters)), (away, left), "{healthy:?}");
            assert_eq!(while_away(MemberId(9), &voters), NoVote);
        }
    }
}
