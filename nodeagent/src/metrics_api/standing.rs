//! Which control planes' agents answer, as this one knows: itself by what it has, the others by their streams, which fall silent when they die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::is_wanted;
use super::sources::Sources;
use crate::controllers::machine::Machine;
use crate::resources::etcd::EtcdMember;
use crate::resources::metrics_api::{MetricsServer, ServerState};
use crate::scores::until_control_plane;
use crate::usage::voices::{HEARTBEAT, Voice, Voices};

/// How often to listen for the others, and how often to look at everything. The board changes only with a state.
const LISTEN: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(500);
/// One that sends heartbeats is gone when four did not come, one that does not when three sweeps did not.
const SILENT: Duration = HEARTBEAT.saturating_mul(4);
const SILENT_WITHOUT_HEARTBEATS: Duration = Duration::from_secs(3);
/// What one look adds to a silence at the most: what this agent did not hear while it stood still itself (a busy host, a machine that was paused),
/// nobody else has to answer for.
const MOST_HEARD_OF: Duration = HEARTBEAT;

/// Who listens, and since when there was nothing to hear.
#[derive(Debug)]
struct Ear {
    last: Instant,
    others: BTreeMap<String, Silence>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Silence {
    /// Of what was heard last.
    since: Instant,
    /// As far as somebody listened.
    lasts: Duration,
}

impl Ear {
    fn new(now: Instant) -> Ear {
        Ear { last: now, others: BTreeMap::new() }
    }

    /// Who of those that were ever heard is silent.
    fn listen(&mut self, voices: &BTreeMap<String, Voice>, now: Instant) -> BTreeSet<String> {
        let step = (now - std::mem::replace(&mut self.last, now)).min(MOST_HEARD_OF);
        self.others.retain(|name, _| voices.contains_key(name));
        let silent = voices.iter().filter(|(name, voice)| {
            let fresh = Silence { since: voice.heard, lasts: Duration::ZERO };
            let silence = self.others.entry((*name).clone()).or_insert(fresh);
            match silence.since == voice.heard {
                true => silence.lasts += step,
                false => *silence = fresh,
            }
            voice.gone || silence.lasts >= if voice.beats { SILENT } else { SILENT_WITHOUT_HEARTBEATS }
        });
        silent.map(|(name, _)| name.clone()).collect()
    }
}

/// For as long as the agent lives, on a control plane.
pub async fn publish(sources: Sources, voices: Voices) {
    until_control_plane(&sources.node).await;
    let mut ear = Ear::new(Instant::now());
    let mut published: Option<(Instant, BTreeSet<String>)> = None;
    loop {
        let (now, heard) = (Instant::now(), voices.all());
        let silent = ear.listen(&heard, now);
        if published.as_ref().is_none_or(|(at, told)| *told != silent || now - *at >= LOOK) {
            let machine = Machine::observe(&sources.node).ok().filter(is_wanted);
            let states = machine.map(|machine| states(&sources, &machine, &heard, &silent, now));
            sources.node.store.replace(states.unwrap_or_default());
            published = Some((now, silent));
        }
        tokio::time::sleep(if heard.is_empty() { LOOK } else { LISTEN }).await;
    }
}

fn states(
    sources: &Sources,
    machine: &Machine,
    heard: &BTreeMap<String, Voice>,
    silent: &BTreeSet<String>,
    now: Instant,
) -> BTreeMap<String, MetricsServer> {
    let own = &machine.facts.node_name;
    let others = EtcdMember::control_planes(&sources.node.store).into_iter().filter(|name| name != own);
    let others = others.map(|name| {
        let state = match heard.contains_key(&name) {
            true if silent.contains(&name) => ServerState::Silent,
            true => ServerState::Heard,
            false if sources.waited(now) => ServerState::Silent,
            false => ServerState::Unknown,
        };
        (name, MetricsServer { state })
    });
    let state = if sources.answer(now) { ServerState::Answering } else { ServerState::Starting };
    others.chain([(own.clone(), MetricsServer { state })]).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const ANOTHER: &str = "cp-2";

    fn heard(beats: bool) -> BTreeMap<String, Voice> {
        BTreeMap::from([(ANOTHER.to_owned(), Voice { heard: Instant::now(), beats, gone: false })])
    }

    /// How long it takes until a voice that says nothing more is silent, by somebody who looks as the agent does.
    async fn until_silent(ear: &mut Ear, voices: &BTreeMap<String, Voice>) -> Duration {
        let began = Instant::now();
        while ear.listen(voices, Instant::now()).is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "{ear:?}");
            sleep(LISTEN).await;
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_sends_heartbeats_is_missed_after_a_second_and_another_after_three() {
        for (beats, seconds) in [(true, 1), (false, 3)] {
            let mut ear = Ear::new(Instant::now());
            let silent = until_silent(&mut ear, &heard(beats)).await;
            assert!((0..=150).contains(&(silent.as_millis() as i64 - seconds * 1000)), "{silent:?}");
            assert_eq!(ear.listen(&heard(beats), Instant::now()), BTreeSet::new(), "it is heard again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_that_come_late_are_no_silence() {
        let mut ear = Ear::new(Instant::now());
        for late in [0, 100, 400, 700] {
            let voices = heard(true);
            let next = Instant::now() + HEARTBEAT + Duration::from_millis(late);
            while Instant::now() < next {
                assert_eq!(ear.listen(&voices, Instant::now()), BTreeSet::new(), "{late} ms late");
                sleep(LISTEN).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_no_calls_is_missed_at_once() {
        let mut ear = Ear::new(Instant::now());
        let mut voices = heard(true);
        assert_eq!(ear.listen(&voices, Instant::now()), BTreeSet::new());
        voices.get_mut(ANOTHER).unwrap().gone = true;
        assert_eq!(ear.listen(&voices, Instant::now()), BTreeSet::from([ANOTHER.to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stood_still_himself_blames_nobody_and_still_misses_who_is_gone() {
        let mut ear = Ear::new(Instant::now());
        let voices = heard(true);
        assert_eq!(ear.listen(&voices, Instant::now()), BTreeSet::new());
        // As long as one likes: the machine was paused.
        advance(Duration::from_secs(3600)).await;
        assert_eq!(ear.listen(&voices, Instant::now()), BTreeSet::new());
        let silent = until_silent(&mut ear, &voices).await;
        assert!(silent >= SILENT - MOST_HEARD_OF && silent <= SILENT, "{silent:?}");
        // On a host so busy that each look comes a second late.
        let voices = heard(true);
        for look in 0..5 {
            assert_eq!(ear.listen(&voices, Instant::now()).is_empty(), look < 4, "look {look}");
            advance(Duration::from_secs(1)).await;
        }
    }
}
