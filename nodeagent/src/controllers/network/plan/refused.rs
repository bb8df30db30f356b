//! Addresses that the kernel does not use, since it found another machine that has them: what is told of them, and which it is to look at again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Action, Seen, Wanted};
use crate::controllers::network::duplicates::Told;
use crate::resources::network::{Address, AddressState, Duplicate};

/// What was told stays so while the kernel looks again: an address comes to an end as a duplicate once it is in use.
pub fn actions(wanted: &Wanted, seen: &Seen) -> Vec<Action> {
    let present: BTreeMap<(String, IpAddr), &Address> = seen.kernel.addresses.iter().map(|address| (address.key(), address)).collect();
    let is_wanted = |duplicate: &Duplicate| wanted.addresses.iter().any(|address| address.key() == duplicate.key());
    let mut actions = Vec::new();
    for duplicate in seen.duplicates.values().filter(|duplicate| !duplicate.used) {
        match present.get(&duplicate.key()).map(|address| address.state) {
            Some(AddressState::Usable) => actions.push(Action::TellDuplicate(Told::Ended(duplicate.clone()))),
            Some(AddressState::Tentative | AddressState::Dadfailed) => {}
            // The kernel drops addresses of a link that is set down.
            None if is_wanted(duplicate) => {}
            None => actions.push(Action::TellDuplicate(Told::Forgotten(duplicate.clone()))),
        }
    }
    for (key, address) in present.into_iter().filter(|(_, address)| address.state == AddressState::Dadfailed) {
        // The kernel does not say whose it is.
        let duplicate = Duplicate { link: key.0.clone(), address: key.1, hardware_address: String::new(), used: false };
        if !seen.duplicates.contains_key(&duplicate.name()) {
            actions.push(Action::TellDuplicate(Told::Found(duplicate)));
        }
        // A lease is given back to its server instead.
        let is_leased = seen.leases.values().any(|lease| lease.address == address.address);
        let again = address.without_state();
        if seen.due.contains(&key) && !is_leased && wanted.addresses.contains(&again) {
            actions.push(Action::TryAddressAgain(again));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use machine::config::Interface;

    use super::*;
    use crate::controllers::fixtures::{changed, machine};
    use crate::controllers::network::plan::{Plan, plan, tests};
    use crate::resources::network::Lease;

    fn address(state: AddressState) -> Address {
        Address { link: "eth0".into(), address: "2001:db8::1/64".parse().unwrap(), owned: true, state }
    }

    /// A machine with a static address, as its kernel sees that; `None` where it has none.
    fn seen(state: Option<AddressState>, configured: bool) -> Seen {
        let addresses = if configured { vec!["2001:db8::1/64".parse().unwrap()] } else { Vec::new() };
        let interface = Interface { name: "eth0".into(), addresses, ..Interface::default() };
        let config = changed(&machine("worker"), |config| config.machine.network.interfaces = vec![interface]).config;
        let mut seen = Seen { config: Some(config), ..Seen::default() };
        seen.kernel.links.insert("eth0".into(), tests::ethernet(2, true));
        seen.kernel.addresses.extend(state.map(address));
        seen
    }

    fn duplicate() -> Duplicate {
        Duplicate { link: "eth0".into(), address: "2001:db8::1".parse().unwrap(), hardware_address: String::new(), used: false }
    }

    /// What the plan does about addresses.
    fn planned(seen: &Seen) -> Vec<Action> {
        let Plan::Act(actions) = plan(seen) else { return Vec::new() };
        let is_of_addresses = |action: &Action| {
            matches!(action, Action::AddAddress(_) | Action::RemoveAddress(_) | Action::TryAddressAgain(_) | Action::TellDuplicate(_))
        };
        actions.into_iter().filter(is_of_addresses).collect()
    }

    #[test]
    fn a_refused_address_is_told_once_and_its_end_once_it_is_in_use() {
        use AddressState::{Dadfailed, Tentative, Usable};
        let tell = |told| vec![Action::TellDuplicate(told)];
        // The address in the kernel, whether the config has it, whether it was told; what follows.
        let table: [(Option<AddressState>, bool, bool, Vec<Action>); 9] = [
            (Some(Usable), true, false, vec![]),
            (Some(Tentative), true, false, vec![]),
            (Some(Dadfailed), true, false, tell(Told::Found(duplicate()))),
            (Some(Dadfailed), true, true, vec![]),
            (Some(Tentative), true, true, vec![]),
            (Some(Usable), true, true, tell(Told::Ended(duplicate()))),
            (None, true, true, vec![Action::AddAddress(address(Usable))]),
            (None, false, true, tell(Told::Forgotten(duplicate()))),
            (Some(Dadfailed), false, true, vec![Action::RemoveAddress(address(Usable))]),
        ];
        for (state, configured, told, expected) in table {
            let mut seen = seen(state, configured);
            seen.duplicates.extend(told.then(|| (duplicate().name(), duplicate())));
            assert_eq!(planned(&seen), expected, "{state:?} configured: {configured} told: {told}");
        }
        // One that is used all the same is the watch's, which asks by ARP.
        let mut seen = seen(None, false);
        seen.duplicates.insert("eth0/192.0.2.1".into(), Duplicate { used: true, address: [192, 0, 2, 1].into(), ..duplicate() });
        assert_eq!(planned(&seen), []);
    }

    #[test]
    fn the_kernel_looks_again_at_what_is_due_and_neither_leased_nor_another_s() {
        let again = || vec![Action::TryAddressAgain(address(AddressState::Usable))];
        let due = |state| {
            let mut seen = seen(state, true);
            seen.duplicates.insert(duplicate().name(), duplicate());
            seen.due = BTreeSet::from([duplicate().key()]);
            seen
        };
        assert_eq!(planned(&due(Some(AddressState::Dadfailed))), again());
        assert_eq!(planned(&due(Some(AddressState::Tentative))), []);
        let mut leased = due(Some(AddressState::Dadfailed));
        leased.leases.insert("eth0/ipv6".into(), Lease { address: address(AddressState::Usable).address, ..tests::lease() });
        assert!(!planned(&leased).iter().any(|action| matches!(action, Action::TryAddressAgain(_))));
        let mut foreign = due(None);
        foreign.kernel.addresses.insert(Address { owned: false, ..address(AddressState::Dadfailed) });
        assert!(!planned(&foreign).iter().any(|action| matches!(action, Action::TryAddressAgain(_))));
    }
}
