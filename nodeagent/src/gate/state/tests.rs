//! The whole table of the gate, and what follows from it over a boot.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { hold: Duration::from_secs(60), deadline: Duration::from_secs(900) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn observation(check: &str, verdict: Verdict) -> Observation {
    Observation { check: check.to_owned(), verdict, service: None }
}

fn rounds() -> [(&'static str, Vec<Observation>); 4] {
    let passed = observation("kubelet", Verdict::Passed);
    [
        ("nothing checked", Vec::new()),
        ("all pass", vec![passed.clone()]),
        ("one is excused", vec![passed.clone(), observation("cluster", Verdict::Excused("no API server answers".to_owned()))]),
        ("one fails", vec![passed, observation("node", Verdict::Failing("it is not Ready".to_owned()))]),
    ]
}

fn words(state: &State) -> String {
    match state {
        State::Watching { good_since, vouched_at } => {
            let since = good_since.map_or("-".to_owned(), |since| format!("{} s", since.as_secs()));
            format!("watching, good since {since}, vouched at {} s", vouched_at.as_secs())
        }
        other => format!("{other:?}").to_lowercase(),
    }
}

fn done(effects: &[Effect]) -> String {
    let word = |effect: &Effect| match effect {
        Effect::Vouch => "vouch".to_owned(),
        Effect::Bless => "bless".to_owned(),
        Effect::GiveUp(failing) => format!("give up ({})", failing.check),
    };
    if effects.is_empty() { "-".to_owned() } else { effects.iter().map(word).collect::<Vec<_>>().join(", ") }
}

#[test]
fn table() {
    let mut table = "hold 60 s, deadline 900 s; times since the boot\n".to_owned();
    let watching = |good_since: Option<u64>, vouched_at| State::Watching { good_since: good_since.map(at), vouched_at: at(vouched_at) };
    let states = [watching(None, 80), watching(None, 890), watching(Some(50), 80), watching(Some(890), 890), State::Blessed, State::Failed];
    for state in states {
        writeln!(table, "\n{}", words(&state)).unwrap();
        for now in [90, 110, 899, 900, 950] {
            for (what, seen) in rounds() {
                let (to, effects) = next(&state, Event::Tick { now: at(now), seen }, RULES);
                let to = if to == state { "-".to_owned() } else { words(&to) };
                writeln!(table, "  {now:>3} s {what:<16} {:<28} {to}", done(&effects)).unwrap();
            }
        }
    }
    crate::golden::check("src/gate/golden/gate.txt", &table);
}

/// Ticks until the gate is decided: when, and how.
fn run(rounds: impl Fn(u64) -> bool, first: u64, every: u64) -> (u64, State, u64) {
    let (mut state, mut now, mut longest, mut vouched) = (State::new(at(first)), first, 0, first);
    while matches!(state, State::Watching { .. }) {
        now += every;
        let verdict = if rounds(now) { Verdict::Passed } else { Verdict::Failing("no".to_owned()) };
        let (to, effects) = next(&state, Event::Tick { now: at(now), seen: vec![observation("node", verdict)] }, RULES);
        if effects.contains(&Effect::Vouch) {
            longest = longest.max(now - vouched);
            vouched = now;
        }
        state = to;
    }
    (now, state, longest)
}

#[test]
fn a_boot_that_is_good_late_may_end_its_hold() {
    assert_eq!(run(|now| now >= 100, 5, 5), (160, State::Blessed, 30));
    assert_eq!(run(|now| now >= 890, 5, 5), (950, State::Blessed, 30));
    assert_eq!(run(|now| (890..940).contains(&now), 5, 5), (940, State::Failed, 30));
    assert_eq!(run(|_| false, 5, 5), (900, State::Failed, 30));
    // An agent that first comes up after the deadline.
    assert_eq!(run(|_| false, 2000, 5), (2005, State::Failed, 0));
}

proptest! {
    /// Whatever the checks say, the gate is decided in time, it never leaves init without a word for long, and only a hold without a break
    /// makes an image good.
    #[test]
    fn every_boot_is_decided(pattern in prop::collection::vec(any::<bool>(), 1..240), first in 1_u64..1200, every in 1_u64..30) {
        let passes = |now: u64| pattern[(now as usize / 7) % pattern.len()];
        let (ended, state, longest) = run(passes, first, every);
        prop_assert!(ended <= 900_u64.max(first) + 60 + 2 * every);
        prop_assert!(at(longest) < VOUCHED_FOR);
        match state {
            State::Blessed => {
                let held = (0..).map(|ticks| ended - ticks * every).take_while(|now| *now > first && now + 60 >= ended);
                prop_assert!(held.clone().all(passes) && held.count() as u64 * every >= 60);
            }
            other => prop_assert_eq!(other, State::Failed),
        }
    }
}
