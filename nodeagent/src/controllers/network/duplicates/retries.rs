//! When the kernel is to look again at an IPv6 address that it does not use, since another machine has it: by itself it never does. This knows no clock
//! and no network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::super::kernel::Kernel;
use super::RECHECK;
use crate::resources::network::{Address, AddressState};

/// At least between two looks, however often the link's carrier goes and comes.
const LEAST: Duration = Duration::from_secs(5);

/// A link and an address of it.
pub type Key = (String, IpAddr);

#[derive(Debug)]
struct Entry {
    /// What the link had counted at the look: another count may mean another network.
    carrier_losses: u32,
    looked: Duration,
}

/// The addresses that are refused. All times are since some moment.
#[derive(Debug, Default)]
pub struct Retries {
    entries: BTreeMap<Key, Entry>,
    wake: Option<Duration>,
}

impl Retries {
    /// The addresses that are due now, each once.
    pub fn due(&mut self, kernel: &Kernel, now: Duration) -> BTreeSet<Key> {
        let ours: BTreeMap<Key, &Address> = kernel.addresses.iter().filter(|address| address.owned).map(|one| (one.key(), one)).collect();
        // While the kernel looks, nothing is known of an address.
        self.entries.retain(|key, _| ours.get(key).is_some_and(|address| address.state != AddressState::Usable));
        let (mut due, mut wake) = (BTreeSet::new(), None);
        for (key, address) in ours.into_iter().filter(|(_, address)| address.state == AddressState::Dadfailed) {
            // Nobody can be asked by a link without a carrier.
            let Some(link) = kernel.links.get(&address.link).filter(|link| link.carrier) else { continue };
            let losses = link.carrier_losses;
            let entry = self.entries.entry(key.clone()).or_insert(Entry { carrier_losses: losses, looked: now });
            let at = entry.looked + if entry.carrier_losses == losses { RECHECK } else { LEAST };
            if at <= now {
                *entry = Entry { carrier_losses: losses, looked: now };
                due.insert(key);
            }
            let next = if at <= now { now + RECHECK } else { at };
            wake = Some(wake.map_or(next, |wake: Duration| wake.min(next)));
        }
        self.wake = wake;
        due
    }

    /// When an address will be due, as far as is known.
    pub fn wake(&self) -> Option<Duration> {
        self.wake
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::network::plan::tests::ethernet;
    use crate::resources::link::Link;

    fn kernel(state: AddressState, carrier: bool, carrier_losses: u32) -> Kernel {
        let link = Link { carrier, carrier_losses, ..ethernet(2, true) };
        let address = |address: &str, owned| Address { link: "eth0".into(), address: address.parse().unwrap(), owned, state };
        // What the kernel chose is not ours to set anew.
        let addresses = [address("2001:db8::1/64", true), address("2001:db8::2/64", false)].into();
        Kernel { links: [("eth0".to_owned(), link)].into(), addresses, ..Kernel::default() }
    }

    #[test]
    fn a_refused_address_is_due_every_half_minute_and_soon_after_the_carrier_was_away() {
        use AddressState::{Dadfailed, Tentative, Usable};
        let mut retries = Retries::default();
        // At this second, with this of the address, a carrier and its losses: whether it is due, and when to look next.
        let table: [(u64, AddressState, bool, u32, bool, Option<u64>); 15] = [
            (0, Tentative, true, 0, false, None),
            (1, Dadfailed, true, 0, false, Some(31)),
            (30, Dadfailed, true, 0, false, Some(31)),
            (31, Dadfailed, true, 0, true, Some(61)),
            (31, Tentative, true, 0, false, None),
            (32, Dadfailed, true, 0, false, Some(61)),
            // A carrier that is away: nobody to ask, and no time to wake for.
            (70, Dadfailed, false, 1, false, None),
            (71, Dadfailed, true, 1, true, Some(101)),
            // It goes and comes all the time.
            (72, Dadfailed, true, 2, false, Some(76)),
            (73, Dadfailed, true, 3, false, Some(76)),
            (76, Dadfailed, true, 9, true, Some(106)),
            (77, Dadfailed, true, 9, false, Some(106)),
            // It was another's, and is again: from the beginning.
            (78, Usable, true, 9, false, None),
            (90, Dadfailed, true, 9, false, Some(120)),
            (121, Dadfailed, true, 9, true, Some(151)),
        ];
        for (second, state, carrier, losses, is_due, wake) in table {
            let due = retries.due(&kernel(state, carrier, losses), Duration::from_secs(second));
            let expected: BTreeSet<Key> = is_due.then(|| ("eth0".to_owned(), "2001:db8::1".parse().unwrap())).into_iter().collect();
            assert_eq!((due, retries.wake()), (expected, wake.map(Duration::from_secs)), "at {second} s");
        }
    }
}
