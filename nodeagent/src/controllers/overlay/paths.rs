//! How packets fare between this machine and the others: in the background some peers are asked in each round, all of them in turn, and what
//! comes of it is shown. Nothing is decided by it.
//!
//! reads: overlaypeers, clusternodes   writes: overlaypaths

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::reach;
use crate::node::Node;
use crate::resources::overlay::{OverlayPath, OverlayPeer, PeerState};

/// Between rounds. A change on the board wakes others, so what is shown changes no more often.
const ROUND: Duration = Duration::from_secs(15);
/// Peers of one round: with five hundred each is asked every four minutes, and each machine is asked twice a second.
const MOST: usize = 32;
/// The kernel sends a lost packet again after a second (RFC 6298, 2.1): an answer after that is to the second.
const DEADLINE: Duration = Duration::from_millis(950);
/// Tries that are remembered of each peer.
const REMEMBERED: usize = 16;

pub async fn follow(node: Node) {
    let mut paths = Paths::default();
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        paths.round(&node).await;
    }
}

#[derive(Debug, Default)]
pub struct Paths {
    /// Who was asked last.
    last: String,
    tries: BTreeMap<String, Tries>,
}

impl Paths {
    /// Asks the next ones, and shows what is known of all.
    pub async fn round(&mut self, node: &Node) {
        let mut peers = node.store.all::<OverlayPeer>();
        peers.retain(|name, peer| peer.state == PeerState::Connected && reach::is_ready(node, name));
        self.tries.retain(|name, _| peers.contains_key(name));
        let asked = next(&peers, &self.last, MOST);
        self.last = asked.last().map(|(name, _)| (*name).clone()).unwrap_or_default();
        let answers = join_all(asked.into_iter().map(async |(name, peer)| {
            let began = Instant::now();
            let answer = reach::ask(peer, DEADLINE).await;
            (name.clone(), answer.map(|()| began.elapsed()))
        }));
        for (name, answer) in answers.await {
            self.tries.entry(name).or_default().push(answer);
        }
        node.store.replace(self.tries.iter().map(|(name, tries)| (name.clone(), tries.shown())));
    }
}

/// Those that come after the last one, and then from the first.
fn next<'a, V>(peers: &'a BTreeMap<String, V>, last: &str, most: usize) -> Vec<(&'a String, &'a V)> {
    let later = peers.range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
    let earlier = peers.range::<str, _>((Bound::Unbounded, Bound::Included(last)));
    later.chain(earlier).take(most).collect()
}

/// What came of the last tries with one peer.
#[derive(Debug, Default)]
struct Tries {
    /// None where there was no answer.
    last: VecDeque<Option<Duration>>,
    message: String,
}

impl Tries {
    fn push(&mut self, answer: Result<Duration, String>) {
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(answer.as_ref().ok().copied());
        self.message = answer.err().unwrap_or_default();
    }

    fn shown(&self) -> OverlayPath {
        let mut answers: Vec<Duration> = self.last.iter().flatten().copied().collect();
        answers.sort();
        let (tries, lost) = (self.last.len(), self.last.len() - answers.len());
        let micros = |latency: &Duration| two_digits(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        OverlayPath {
            tries: u32::try_from(tries).unwrap_or(u32::MAX),
            loss_percent: u32::try_from(lost * 100 / tries.max(1)).unwrap_or(100),
            latency_micros: answers.get(answers.len() / 2).map(micros),
            worst_micros: answers.last().map(micros),
            message: self.message.clone(),
        }
    }
}

/// More would be noise, and each change is told to whoever follows the board.
fn two_digits(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(1));
    number / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_asked_in_turn() {
        let peers: BTreeMap<String, ()> = ["a", "b", "c", "d", "e"].map(|name| (name.to_owned(), ())).into();
        let asked = |last: &str, most| next(&peers, last, most).into_iter().map(|(name, ())| name.as_str()).collect::<String>();
        assert_eq!((asked("", 2), asked("b", 2), asked("d", 2), asked("e", 2)), ("ab".into(), "cd".into(), "ea".into(), "ab".into()));
        assert_eq!(asked("c", 9), "deabc", "each once");
        assert_eq!(asked("bb", 2), "cd", "one that has left");
        assert_eq!(next(&BTreeMap::<String, ()>::new(), "a", 2), []);
    }

    #[test]
    fn the_last_tries_are_told_of() {
        let mut tries = Tries::default();
        for micros in [1234, 250, 987_654] {
            tries.push(Ok(Duration::from_micros(micros)));
        }
        tries.push(Err("10.244.3.0: no answer within 0.95 s".to_owned()));
        let shown = tries.shown();
        assert_eq!((shown.tries, shown.loss_percent, shown.latency_micros, shown.worst_micros), (4, 25, Some(1200), Some(980_000)));
        assert_eq!(shown.message, "10.244.3.0: no answer within 0.95 s");
        for _ in 0..REMEMBERED {
            tries.push(Ok(Duration::from_micros(7)));
        }
        let shown = tries.shown();
        assert_eq!((shown.tries, shown.loss_percent, shown.latency_micros, shown.message.as_str()), (16, 0, Some(7), ""));
        assert_eq!(Tries::default().shown().latency_micros, None);
    }
}
