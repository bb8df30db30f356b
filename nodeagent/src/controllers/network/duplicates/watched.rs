//! When to ask who else has an address, and what follows from what is heard. It knows no clock and no network.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{RECHECK, Told};
use crate::packets::Mac;
use crate::resources::network::{Duplicate, hardware_address};

/// Questions about a new address, and the time between them.
const PROBES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// A link and an address of it.
pub type Key = (String, Ipv4Addr);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    Probe,
    /// Nobody answered: whoever remembers another machine with this address may forget it.
    Announce,
}

/// An address that another machine has too, and that this one goes on using.
fn duplicate((link, address): &Key, other: Mac) -> Duplicate {
    Duplicate { link: link.clone(), address: (*address).into(), hardware_address: hardware_address(&other), used: true }
}

#[derive(Debug)]
struct Entry {
    /// What the link had counted when the questions began: another count may mean another network.
    carrier_losses: u32,
    /// Questions since the last answer.
    unanswered: u32,
    due: Option<Duration>,
    other: Option<Mac>,
}

/// The addresses that are watched. All times are since some moment.
#[derive(Debug, Default)]
pub struct Watched(BTreeMap<Key, Entry>);

impl Watched {
    /// These are the addresses now, with the number of times that their link has lost its carrier.
    pub fn follow(&mut self, own: BTreeMap<Key, u32>, now: Duration) -> Vec<Told> {
        let gone: Vec<Key> = self.0.keys().filter(|key| !own.contains_key(key)).cloned().collect();
        let was_told = |(key, entry): (Key, Entry)| entry.other.map(|mac| Told::Forgotten(duplicate(&key, mac)));
        let told = gone.into_iter().filter_map(|key| self.0.remove_entry(&key)).filter_map(was_told).collect();
        for (key, carrier_losses) in own {
            let entry = self.0.entry(key).or_insert(Entry { carrier_losses, unanswered: 0, due: Some(now), other: None });
            if entry.carrier_losses != carrier_losses {
                (entry.carrier_losses, entry.unanswered, entry.due) = (carrier_losses, 0, Some(now));
            }
        }
        told
    }

    /// Another machine called the address its own. It is told once, whoever else does so too.
    pub fn heard(&mut self, key: &Key, mac: Mac) -> Vec<Told> {
        let Some(entry) = self.0.get_mut(key) else { return Vec::new() };
        entry.unanswered = 0;
        if entry.other.is_some() {
            return Vec::new();
        }
        entry.other = Some(mac);
        // An address that all questions had been asked about is looked at again from now on.
        entry.due = entry.due.or(Some(Duration::ZERO));
        vec![Told::Found(duplicate(key, mac))]
    }

    /// What is to be said now, and which duplicates have ended: those about which as many questions as [`PROBES`] were not answered.
    pub fn due(&mut self, now: Duration) -> (Vec<(Key, Say)>, Vec<Told>) {
        let (mut say, mut told) = (Vec::new(), Vec::new());
        for (key, entry) in self.0.iter_mut().filter(|(_, entry)| entry.due.is_some_and(|due| due <= now)) {
            if entry.unanswered < PROBES {
                entry.unanswered += 1;
                entry.due = Some(now + if entry.other.is_some() { RECHECK } else { PAUSE });
                say.push((key.clone(), Say::Probe));
                continue;
            }
            entry.due = None;
            say.push((key.clone(), Say::Announce));
            told.extend(entry.other.take().map(|mac| Told::Ended(duplicate(key, mac))));
        }
        (say, told)
    }

    /// When something is due.
    pub fn wake(&self) -> Option<Duration> {
        self.0.values().filter_map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn key() -> Key {
        ("eth0".to_owned(), Ipv4Addr::new(192, 0, 2, 10))
    }

    /// What is said, and told of an end, from one moment to another.
    fn run(watched: &mut Watched, from: u64, to: u64, answers: bool) -> (Vec<Say>, Vec<Told>) {
        let (mut said, mut told) = (Vec::new(), Vec::new());
        let mut now = Duration::from_secs(from);
        while now <= Duration::from_secs(to) {
            let (say, ended) = watched.due(now);
            for (key, say) in say {
                said.push(say);
                if answers {
                    told.extend(watched.heard(&key, MAC));
                }
            }
            told.extend(ended);
            let Some(wake) = watched.wake() else { break };
            assert!(wake > now, "{watched:?}");
            now = wake;
        }
        (said, told)
    }

    #[test]
    fn a_new_address_is_asked_for_and_announced_and_so_again_after_the_carrier_was_lost() {
        let mut watched = Watched::default();
        for losses in [0, 0, 1] {
            let before = watched.0.get(&key()).map(|entry| entry.carrier_losses);
            assert_eq!(watched.follow([(key(), losses)].into(), Duration::ZERO), []);
            let expected: &[Say] = if before == Some(losses) { &[] } else { &[Say::Probe, Say::Probe, Say::Probe, Say::Announce] };
            assert_eq!(run(&mut watched, 0, 60, false), (expected.to_vec(), vec![]));
        }
    }

    #[test]
    fn a_duplicate_is_told_once_and_its_end_too() {
        let mut watched = Watched::default();
        watched.follow([(key(), 0)].into(), Duration::ZERO);
        assert_eq!(run(&mut watched, 0, 600, true).1, [Told::Found(duplicate(&key(), MAC))]);
        assert_eq!(watched.heard(&key(), [9; 6]), []);
        let (said, told) = run(&mut watched, 601, 1200, false);
        assert_eq!((said.last(), told), (Some(&Say::Announce), vec![Told::Ended(duplicate(&key(), MAC))]));
        // One that speaks later, unasked.
        assert_eq!(watched.heard(&key(), MAC), [Told::Found(duplicate(&key(), MAC))]);
        assert_eq!(watched.follow(BTreeMap::new(), Duration::from_secs(1300)), [Told::Forgotten(duplicate(&key(), MAC))]);
        assert_eq!((watched.heard(&key(), MAC), watched.wake()), (vec![], None));
    }
}
