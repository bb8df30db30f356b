//! The scores over time.

use std::cmp::Ordering;

use super::*;

fn idle() -> Load {
    Load { cpus: 4.0, memory_bytes: 8e9, ..Load::default() }
}

fn names() -> Vec<String> {
    ["a", "b"].map(str::to_owned).to_vec()
}

fn told(scores: &Scores, now: Instant) -> Vec<u8> {
    scores.of(&names(), now).into_iter().map(|told| told.score).collect()
}

#[test]
fn a_burst_of_pods_is_spread_before_any_of_them_shows() {
    let (scores, now) = (Scores::default(), Instant::now());
    scores.add("a", idle(), now);
    scores.add("b", Load { cpus_used: 1.0, ..idle() }, now);
    let mut got = [0, 0];
    for pod in 0..10 {
        let told = scores.of(&names(), now);
        // Among equals the scheduler draws lots.
        let best = match told[0].score.cmp(&told[1].score) {
            Ordering::Greater => 0,
            Ordering::Less => 1,
            Ordering::Equal => pod % 2,
        };
        got[best] += 1;
        scores.expect(&pod.to_string(), Pending { cpus: 0.5, memory_bytes: 0.0 }, &told, now);
    }
    assert!(got[0] > 0 && got[1] > 0 && got[0] > got[1], "{got:?}");
    // It fades as the nodes' own figures would take it in.
    let later = now + Duration::from_secs(31);
    scores.add("a", idle(), later);
    assert_eq!(scores.of(&names(), later)[0].why.map(|why| why.pending), Some(Pending::default()));
}

#[test]
fn a_pod_that_is_tried_again_counts_once() {
    let (scores, now) = (Scores::default(), Instant::now());
    scores.add("a", idle(), now);
    let told = scores.of(&names()[..1], now);
    for _ in 0..100 {
        scores.expect("the same", Pending { cpus: 0.5, memory_bytes: 0.0 }, &told, now);
    }
    assert_eq!(scores.of(&names()[..1], now)[0].why.map(|why| why.pending.cpus), Some(0.5));
}

#[test]
fn a_node_that_falls_silent_becomes_one_of_many() {
    let (scores, now) = (Scores::default(), Instant::now());
    scores.add("a", Load { cpus_used: 4.0, cpu_some: 1.0, ..idle() }, now);
    scores.add("b", idle(), now);
    assert_eq!(told(&scores, now), [0, 10]);
    let later = now + Duration::from_secs(20);
    scores.add("b", idle(), later);
    assert_eq!(told(&scores, later), [10, 10]);
    scores.remove("a");
    assert_eq!(scores.all(later).len(), 1);
}
