//! What the score promises, and the table that docs/scheduling.md shows.

use proptest::prelude::*;

use super::*;

fn idle() -> Load {
    Load { cpus: 4.0, memory_bytes: 8e9, ..Load::default() }
}

fn exact(load: Load) -> f64 {
    score(load, Pending::default()).exact
}

#[test]
fn the_table_in_the_document() {
    let rows = [
        ("idle", idle(), 10),
        ("half of the CPUs in use, nobody waits", Load { cpus_used: 2.0, ..idle() }, 6),
        ("half of the memory in use", Load { memory_used_bytes: 4e9, ..idle() }, 6),
        ("all CPUs in use, nobody waits", Load { cpus_used: 4.0, ..idle() }, 2),
        ("all CPUs in use, somebody waits half of the time", Load { cpus_used: 4.0, cpu_some: 0.5, ..idle() }, 1),
        ("all CPUs in use, somebody always waits", Load { cpus_used: 4.0, cpu_some: 1.0, ..idle() }, 0),
        ("half of the CPUs in use, a tenth of the time all wait for memory", Load { cpus_used: 2.0, memory_full: 0.1, ..idle() }, 3),
        ("idle, half of the time all wait for I/O", Load { io_full: 0.5, ..idle() }, 0),
    ];
    for (what, load, expected) in rows {
        assert_eq!(whole(exact(load)), expected, "{what}: {}", exact(load));
    }
}

#[test]
fn a_pod_that_was_just_bound_counts_and_fades() {
    let requests = Pending { cpus: 2.0, memory_bytes: 0.0 };
    let after = |seconds| score(idle(), Pending::of(requests, Duration::from_secs(seconds))).exact;
    assert_eq!((after(0), after(30)), (exact(Load { cpus_used: 2.0, ..idle() }), 10.0));
    assert!(after(0) < after(10) && after(10) < after(20));
    // Ten pods of a burst weigh ten times as much: the next one goes elsewhere.
    let burst = (0..10).map(|_| Pending::of(Pending { cpus: 0.4, ..requests }, Duration::ZERO)).fold(Pending::default(), Pending::and);
    assert_eq!(whole(score(idle(), burst).exact), 2);
}

#[test]
fn what_is_stale_is_neither_sought_nor_shunned() {
    let seconds = Duration::from_secs;
    let aged =
        aged(&[(9.0, seconds(1)), (3.0, seconds(2)), (5.0, seconds(0)), (0.0, seconds(60)), (10.0, seconds(60)), (9.0, seconds(10))]);
    // The middle of what is fresh enough: 3, 5, 9, 9.
    assert_eq!(aged, [9.0, 3.0, 5.0, 9.0, 9.0, 9.0]);
    assert_eq!(super::aged(&[(0.0, seconds(60)), (10.0, seconds(15))]), [5.0, 5.0]);
    let half = super::aged(&[(10.0, seconds(10)), (2.0, seconds(0)), (2.0, seconds(0))]);
    assert_eq!(half, [6.0, 2.0, 2.0]);
}

#[test]
fn nodes_are_compared_with_the_best_of_them() {
    assert_eq!(compared(&[8.0, 7.5, 5.5, 3.0, 1.0]), [10, 9, 5, 0, 0]);
    // Where all are bad, the least bad is sought all the same, and a hair's breadth is none.
    assert_eq!(compared(&[1.0, 0.9, 0.0]), [10, 10, 8]);
    assert!(compared(&[]).is_empty());
}

#[test]
fn smoothing_follows_what_lasts() {
    let mut smooth = Smooth::default();
    smooth.add(idle(), Duration::ZERO);
    let busy = Load { cpus_used: 4.0, cpu_some: 1.0, ..idle() };
    smooth.add(busy, Duration::from_secs(1));
    let blink = smooth.load().unwrap();
    assert!(blink.cpu_some < 0.1, "{blink:?}");
    (0..30).for_each(|_| smooth.add(busy, Duration::from_secs(1)));
    assert!(smooth.load().unwrap().cpu_some > 0.95);
}

fn loads() -> impl Strategy<Value = Load> {
    let share = || 0.0..=1.0f64;
    (1.0..256.0f64, 0.0..300.0f64, 1e8..1e12f64, 0.0..2e12f64, share(), share(), share()).prop_map(
        |(cpus, cpus_used, memory_bytes, memory_used_bytes, cpu_some, memory_full, io_full)| Load {
            cpus,
            cpus_used,
            memory_bytes,
            memory_used_bytes,
            cpu_some,
            memory_full,
            io_full,
        },
    )
}

proptest! {
    #[test]
    fn more_load_or_pressure_never_scores_better(load in loads(), more in loads()) {
        let heavier = Load {
            cpus_used: load.cpus_used + more.cpus_used,
            memory_used_bytes: load.memory_used_bytes + more.memory_used_bytes,
            cpu_some: load.cpu_some.max(more.cpu_some),
            memory_full: load.memory_full.max(more.memory_full),
            io_full: load.io_full.max(more.io_full),
            ..load
        };
        prop_assert!(exact(heavier) <= exact(load));
        prop_assert!((0.0..=10.0).contains(&exact(load)));
    }
}
