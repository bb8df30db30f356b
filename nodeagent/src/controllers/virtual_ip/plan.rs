//! Whether this machine takes, keeps or gives up the virtual IP.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::BEAT;
use crate::controllers::shared_address::Place;
use crate::plan::{Missing, Plan};
use crate::resources::virtual_ip::VirtualIp as Status;

#[derive(Debug, Clone)]
pub struct Seen {
    /// By the machine config.
    pub wanted: Option<IpAddr>,
    /// This machine's, in the election.
    pub name: String,
    /// What keeps it from being a candidate.
    pub fit: Result<(), Vec<Missing>>,
    /// Where the address belongs, and whether it is there; none where no address is wanted.
    pub place: Option<Place>,
    pub held: Option<Held>,
    pub holder: Told,
    pub told: BTreeMap<String, Status>,
}

/// The election that this machine won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Until another may win it.
    pub left: Duration,
    pub since_renewal: Duration,
}

/// What etcd says of the holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    NotAsked,
    Silent(String),
    Nobody,
    Somebody { by: String, lease: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Claim {
        address: IpAddr,
        by: String,
    },
    /// This machine won before its agent was started anew.
    Adopt {
        address: IpAddr,
        by: String,
        lease: i64,
    },
    Renew {
        address: IpAddr,
        place: Place,
    },
    Hold {
        address: IpAddr,
        place: Place,
    },
    Remove {
        address: IpAddr,
        place: Place,
    },
    Resign,
    /// Its time is over.
    Lose,
    Tell(IpAddr, Status),
    Forget(String),
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let stale = seen.told.keys().filter(|name| seen.wanted.is_none_or(|wanted| **name != wanted.to_string()));
    let mut actions: Vec<Action> = stale.cloned().map(Action::Forget).collect();
    let (Some(address), Some(place)) = (seen.wanted, &seen.place) else {
        actions.extend(seen.held.map(|_| Action::Resign));
        return Plan::from_actions(actions);
    };
    let remove = place.present.then(|| Action::Remove { address, place: place.clone() });
    let on_a_link = if place.link.is_empty() { Err(vec![Missing::new(format!("a link for {address}"))]) } else { Ok(()) };
    if let Err(missing) = seen.fit.clone().and(on_a_link) {
        // The address first: whoever comes next may win the moment that this one resigns.
        actions.extend(remove.into_iter().chain(seen.held.map(|_| Action::Resign)));
        actions.extend(tell(seen, address, Status::default()));
        return if actions.is_empty() { Plan::Waiting(missing) } else { Plan::Act(actions) };
    }
    let by = seen.name.clone();
    match (seen.held, &seen.holder) {
        (Some(held), _) if lifetime(held.left).is_none() => actions.extend(remove.into_iter().chain([Action::Lose])),
        (Some(held), _) if held.since_renewal >= BEAT => actions.push(Action::Renew { address, place: place.clone() }),
        (Some(_), _) => {
            actions.extend((!place.present).then(|| Action::Hold { address, place: place.clone() }));
            actions.extend(tell(seen, address, Status { holder: by, held: place.present, link: place.link.clone() }));
        }
        (None, Told::Somebody { by: other, lease }) if *other == by => actions.push(Action::Adopt { address, by, lease: *lease }),
        (None, holder) => {
            actions.extend(remove);
            match holder {
                Told::Nobody => actions.push(Action::Claim { address, by }),
                Told::Somebody { by, .. } => actions.extend(tell(seen, address, Status { holder: by.clone(), ..Status::default() })),
                Told::Silent(why) if actions.is_empty() => return Plan::Waiting(vec![Missing::new(format!("etcd: {why}"))]),
                Told::Silent(_) | Told::NotAsked => {}
            }
        }
    }
    Plan::from_actions(actions)
}

fn tell(seen: &Seen, address: IpAddr, status: Status) -> Option<Action> {
    (seen.told.get(&address.to_string()) != Some(&status)).then_some(Action::Tell(address, status))
}

/// How long the kernel is to keep the address, in seconds; none where the time is over. The kernel looks about once a second
/// (net/ipv4/devinet.c, check_lifetime): a second less than is left, and what is left is rounded down.
pub fn lifetime(left: Duration) -> Option<u32> {
    u32::try_from(left.as_secs().saturating_sub(1)).ok().filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn address() -> IpAddr {
        "192.0.2.100".parse().unwrap()
    }

    fn place(present: bool) -> Place {
        Place { link: "eth0".to_owned(), index: 2, present }
    }

    fn seen(held: Option<(Duration, Duration)>, holder: Told, present: bool) -> Seen {
        let held = held.map(|(left, since_renewal)| Held { left, since_renewal });
        let fit = Ok(());
        Seen { wanted: Some(address()), name: "cp-1".to_owned(), fit, place: Some(place(present)), held, holder, told: BTreeMap::new() }
    }

    fn actions(seen: &Seen) -> Vec<Action> {
        match plan(seen) {
            Plan::Act(actions) => actions,
            Plan::Settled => Vec::new(),
            Plan::Waiting(missing) => panic!("{missing:?}"),
        }
    }

    fn told(mut seen: Seen, status: Status) -> Seen {
        seen.told.insert(address().to_string(), status);
        seen
    }

    #[test]
    fn who_finds_nobody_claims_it_and_holds_what_it_won() {
        let by = "cp-1".to_owned();
        assert_eq!(actions(&seen(None, Told::Nobody, false)), [Action::Claim { address: address(), by: by.clone() }]);
        let fresh = Some((TTL, Duration::ZERO));
        let not_yet = Status { holder: by.clone(), held: false, link: "eth0".to_owned() };
        assert_eq!(actions(&told(seen(fresh, Told::NotAsked, false), not_yet)), [Action::Hold { address: address(), place: place(false) }]);
        let held = Status { holder: by, held: true, link: "eth0".to_owned() };
        assert_eq!(plan(&told(seen(fresh, Told::NotAsked, true), held)), Plan::Settled);
        let due = Some((TTL - BEAT, BEAT));
        assert_eq!(actions(&seen(due, Told::NotAsked, true)), [Action::Renew { address: address(), place: place(true) }]);
    }

    #[test]
    fn what_is_not_won_is_not_held() {
        let other = Told::Somebody { by: "cp-2".to_owned(), lease: 7 };
        let remove = Action::Remove { address: address(), place: place(true) };
        assert_eq!(actions(&seen(None, other.clone(), true))[0], remove);
        assert_eq!(actions(&seen(None, Told::Silent(String::new()), true)), std::slice::from_ref(&remove));
        // The lease is not over yet, but the kernel must be done before it is.
        let over = Some((Duration::from_millis(1900), Duration::from_secs(1)));
        assert_eq!(actions(&seen(over, Told::NotAsked, true)), [remove, Action::Lose]);
        let known = Status { holder: "cp-2".to_owned(), ..Status::default() };
        assert_eq!(plan(&told(seen(None, other, false), known)), Plan::Settled);
        let own = Told::Somebody { by: "cp-1".to_owned(), lease: 7 };
        assert_eq!(actions(&seen(None, own, true)), [Action::Adopt { address: address(), by: "cp-1".to_owned(), lease: 7 }]);
    }

    #[test]
    fn who_is_not_fit_lets_go_and_then_resigns() {
        let mut unfit = seen(Some((TTL, Duration::ZERO)), Told::NotAsked, true);
        unfit.fit = Err(vec![Missing::new("this machine's API server")]);
        let remove = Action::Remove { address: address(), place: place(true) };
        assert_eq!(actions(&unfit)[..2], [remove, Action::Resign]);
        (unfit.held, unfit.place) = (None, Some(place(false)));
        assert!(matches!(plan(&told(unfit.clone(), Status::default())), Plan::Waiting(_)));
        (unfit.wanted, unfit.place) = (None, None);
        assert_eq!(actions(&told(unfit, Status::default())), [Action::Forget(address().to_string())]);
    }

    #[test]
    fn the_kernel_is_done_before_the_lease() {
        for (millis, seconds) in [(10_000, Some(9)), (9_999, Some(8)), (2_000, Some(1)), (1_999, None), (0, None)] {
            assert_eq!(lifetime(Duration::from_millis(millis)), seconds, "{millis}");
        }
    }
}
