use proptest::prelude::*;

use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::resources::overlay::ToldPressure;

const NOW: i64 = 100_000;

fn pod(name: &str, priority: i32, uses: Option<f64>) -> Candidate {
    let (namespace, name) = ("a".to_owned(), name.to_owned());
    Candidate { namespace, uid: format!("uid of {name}"), owner: format!("owner of {name}"), name, priority, stays_because: None, uses }
}

/// A control plane that decides; `pressed` has been under pressure for ten minutes.
fn seen(mode: RebalanceMode, pods: Vec<Candidate>) -> Seen {
    let machine = changed(&machine("controlplane"), |config| config.cluster.pressure.rebalance.mode = mode);
    let node = ClusterNode { ready: true, schedulable: true, ..ClusterNode::default() };
    let told = ToldPressure { resource: "cpu".to_owned(), since: NOW - 600, heard: NOW - 10 };
    let score = |score| NodeScore { score, ..NodeScore::default() };
    Seen {
        machine: Ok(machine),
        may_write: true,
        seat: Some(Seat::Ours),
        nodes: [("calm".to_owned(), node.clone()), ("pressed".to_owned(), ClusterNode { pressures: vec![told], ..node })].into(),
        scores: [("calm".to_owned(), score(9)), ("pressed".to_owned(), score(0))].into(),
        history: History::began(0),
        now: NOW,
        pods: Some(Ok(pods)),
        done: Done::default(),
        told: None,
    }
}

fn evicted(seen: &Seen) -> Option<Eviction> {
    let Plan::Act(actions) = plan(seen) else { return None };
    actions.into_iter().find_map(|action| match action {
        Action::Evict(eviction) => Some(*eviction),
        _ => None,
    })
}

fn doing(seen: &Seen) -> String {
    match plan(seen) {
        Plan::Act(actions) => match &actions[..] {
            [Action::Tell(Some(told))] => told.doing.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_important_pod_that_uses_much_goes() {
    let pods = || vec![pod("db", 100, Some(3.0)), pod("web", 0, Some(0.4)), pod("hog", 0, Some(2.0)), pod("idle", -10, Some(0.01))];
    let eviction = evicted(&seen(RebalanceMode::On, pods())).unwrap();
    assert_eq!((eviction.pod.as_str(), eviction.uid.as_str(), eviction.dry_run), ("hog", "uid of hog", false));
    assert_eq!(eviction.why, "pressed has been under cpu pressure for 600 s, and calm is better off");
    assert!(evicted(&seen(RebalanceMode::DryRun, pods())).unwrap().dry_run);
    // Who stays, or was touched of late, is passed over.
    let mut seen = seen(RebalanceMode::On, pods());
    seen.history.evicted("another", "owner of hog", NOW - 1000);
    assert_eq!(evicted(&seen).unwrap().pod, "web");
}

#[test]
fn nothing_goes_where_nothing_may_or_nothing_would_help() {
    let stays = Candidate { stays_because: Some("it is a static pod"), ..pod("etcd", 0, Some(4.0)) };
    let none = seen(RebalanceMode::On, vec![stays, pod("unknown", 0, None), pod("idle", 0, Some(0.1))]);
    assert_eq!(doing(&none), "none of the 3 pods of pressed can be evicted and would relieve it; 1 have to stay");
    let silent = Seen { pods: Some(Err("asking pressed what its pods use: no answer".to_owned())), ..seen(RebalanceMode::On, Vec::new()) };
    assert_eq!(doing(&silent), "asking pressed what its pods use: no answer");
}

#[test]
fn only_the_one_that_leads_decides_and_only_where_it_is_wanted() {
    let pods = || vec![pod("hog", 0, Some(2.0))];
    let other = Seen { seat: Some(Seat::Others("cp-2".to_owned())), ..seen(RebalanceMode::On, pods()) };
    assert_eq!(doing(&other), "another control plane decides");
    let off = seen(RebalanceMode::Off, pods());
    assert_eq!(plan(&off), Plan::Act(vec![Action::Leave]));
    assert_eq!(plan(&Seen { seat: None, ..off }), Plan::Settled);
    let worker = Seen { machine: Ok(machine("worker")), seat: None, ..seen(RebalanceMode::On, pods()) };
    assert_eq!(plan(&worker), Plan::Settled);
    let early = Seen { may_write: false, ..seen(RebalanceMode::On, pods()) };
    assert!(matches!(plan(&early), Plan::Waiting(_)));
}

proptest! {
    /// However long it goes on and whatever runs there: never more than the pauses let, never the same owner twice in an hour, and never what
    /// stays.
    #[test]
    fn the_pauses_hold(
        beats in proptest::collection::vec(1..200_i64, 1..100),
        uses in proptest::collection::vec((0..3_i32, 0.0..4.0_f64, any::<bool>()), 1..20),
    ) {
        let pods: Vec<Candidate> = uses.iter().enumerate().map(|(number, (priority, uses, stays))| {
            let stays_because = stays.then_some("it stays");
            Candidate { stays_because, ..pod(&number.to_string(), *priority, Some(*uses)) }
        }).collect();
        let mut seen = seen(RebalanceMode::On, pods);
        let mut done: Vec<(i64, String)> = Vec::new();
        for beat in beats {
            seen.now += beat;
            seen.nodes.get_mut("pressed").unwrap().pressures[0].heard = seen.now;
            if let Some(eviction) = evicted(&seen) {
                prop_assert!(seen.pods.iter().flatten().flatten().any(|pod| pod.uid == eviction.uid && pod.stays_because.is_none()));
                if let Some((last, _)) = done.last() {
                    prop_assert!(seen.now - last >= 300);
                }
                prop_assert!(!done.iter().any(|(at, owner)| *owner == eviction.owner && seen.now - at < 3600));
                seen.history.evicted(&eviction.node, &eviction.owner, seen.now);
                done.push((seen.now, eviction.owner));
            }
        }
    }

    #[test]
    fn applied_is_settled(mode in 0..3_usize, leads: bool, uses in 0.0..2.0_f64) {
        let mode = [RebalanceMode::Off, RebalanceMode::DryRun, RebalanceMode::On][mode];
        let seat = Some(if leads { Seat::Ours } else { Seat::Others("cp-2".to_owned()) });
        let mut seen = Seen { seat, ..seen(mode, vec![pod("hog", 0, Some(uses))]) };
        for _ in 0..3 {
            let Plan::Act(actions) = plan(&seen) else { break };
            for action in actions {
                match action {
                    Action::Evict(eviction) => {
                        seen.history.evicted(&eviction.node, &eviction.owner, seen.now);
                        seen.done.evicted += 1;
                    }
                    Action::Tell(told) => seen.told = told,
                    Action::Leave => seen.seat = None,
                }
            }
        }
        prop_assert_eq!(plan(&seen), Plan::Settled);
    }
}
