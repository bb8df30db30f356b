use super::plan::plan;
use super::*;
use crate::controllers::fixtures::{changed, machine};
use crate::controllers::load_balancer::service::{Key, Service, Services};
use crate::controllers::load_balancer::tests::pools;
use crate::plan::Missing;
use crate::resources::load_balancer::AddressState;
use std::sync::Arc;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(name: &str, address: &str, announcer: Option<&str>) -> (Key, Service) {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    (key, Service { addresses: vec![ip(address)], announcer: announcer.map(str::to_owned), ..Service::default() })
}

/// cp-1, with 192.0.2.10, whose kernel has these addresses beside it.
fn seen(services: Option<&Services>, there: &[&str]) -> Seen {
    let machine =
        changed(&machine("worker"), |config| config.cluster.network.load_balancer = pools(&["192.0.2.100-192.0.2.110", "2001:db8::/124"]));
    let there: BTreeSet<IpAddr> = there.iter().map(|address| ip(address)).collect();
    let of_services = services.iter().flat_map(|services| services.values()).flat_map(|service| service.addresses.iter().copied());
    let place = |address: &IpAddr| Place {
        link: if address.is_ipv4() { "eth0".to_owned() } else { String::new() },
        index: u32::from(address.is_ipv4()),
        present: there.contains(address),
    };
    let places = of_services.chain(there.iter().copied()).map(|address| (address, place(&address))).collect();
    Seen {
        machine: Ok(machine),
        services: services.cloned().map(Arc::new),
        places,
        there,
        held: BTreeSet::new(),
        renewal_due: true,
        told: BTreeMap::new(),
    }
}

/// As the kernel and the board would have it after that.
fn apply(seen: &mut Seen, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Hold(address, place) => {
                seen.places.insert(address, Place { present: true, ..place });
                seen.there.insert(address);
                seen.held.insert(address);
            }
            Action::Remove(address, place) => {
                seen.places.insert(address, Place { present: false, ..place });
                seen.there.remove(&address);
                seen.held.remove(&address);
            }
            Action::Renewed => seen.renewal_due = false,
            Action::Tell(addresses) => seen.told = addresses,
        }
    }
}

fn actions(seen: &Seen) -> Vec<Action> {
    match plan(seen) {
        Plan::Act(actions) => actions.concat(),
        Plan::Settled => Vec::new(),
        Plan::Waiting(missing) => panic!("{missing:?}"),
    }
}

/// Whatever Services there are, and whatever an agent before left.
pub fn applied_is_settled(services: &Services) {
    let mut seen = seen(Some(services), &["192.0.2.100", "192.0.2.10"]);
    seen.there.remove(&ip("192.0.2.10"));
    let planned = actions(&seen);
    let touches =
        |address: &str| planned.iter().any(|action| matches!(action, Action::Hold(of, _) | Action::Remove(of, _) if *of == ip(address)));
    assert!(!touches("192.0.2.10"), "its own node IP: {planned:?}");
    apply(&mut seen, planned);
    assert_eq!(plan(&seen), Plan::Settled);
    seen.services = Some(Arc::default());
    let planned = actions(&seen);
    apply(&mut seen, planned);
    assert!(plan(&seen) == Plan::Settled && seen.held.is_empty() && seen.there.is_empty());
}

#[test]
fn it_holds_what_it_was_chosen_for_and_nothing_else() {
    let services: Services = [
        service("here", "192.0.2.100", Some("cp-1")),
        service("elsewhere", "192.0.2.101", Some("cp-2")),
        service("nobody", "192.0.2.102", None),
        service("no-link", "2001:db8::1", Some("cp-1")),
        // Whoever may write Services may say so.
        service("no-pool", "198.51.100.1", Some("cp-1")),
        service("node-ip", "192.0.2.10", Some("cp-1")),
    ]
    .into();
    let mut seen = seen(Some(&services), &["192.0.2.101", "192.0.2.105"]);
    let planned = actions(&seen);
    let removed: Vec<IpAddr> =
        planned.iter().filter_map(|action| if let Action::Remove(address, _) = action { Some(*address) } else { None }).collect();
    assert_eq!(removed, [ip("192.0.2.101"), ip("192.0.2.105")]);
    apply(&mut seen, planned);
    assert_eq!(seen.held, BTreeSet::from([ip("192.0.2.100")]));
    let states: Vec<(&str, AddressState)> = seen.told.iter().map(|(address, told)| (address.as_str(), told.state)).collect();
    let expected = [
        ("192.0.2.100", AddressState::Announced),
        ("192.0.2.101", AddressState::Elsewhere),
        ("192.0.2.102", AddressState::Nobody),
        ("2001:db8::1", AddressState::NoLink),
    ];
    assert_eq!(states, expected);
    assert_eq!(plan(&seen), Plan::Settled);
    // The kernel is told again before it forgets.
    seen.renewal_due = true;
    assert_eq!(actions(&seen), [Action::Hold(ip("192.0.2.100"), seen.places[&ip("192.0.2.100")].clone()), Action::Renewed]);
}

#[test]
fn what_an_agent_before_it_held_stays_until_services_are_known() {
    let missing = Plan::Waiting(vec![Missing::new("Services of the cluster")]);
    assert_eq!(plan(&seen(None, &["192.0.2.100"])), missing);
}

#[test]
fn without_pools_nothing_is_held() {
    let services: Services = [service("here", "192.0.2.100", Some("cp-1"))].into();
    let mut seen = seen(Some(&services), &[]);
    let planned = actions(&seen);
    apply(&mut seen, planned);
    seen.machine = Ok(machine("worker"));
    let planned = actions(&seen);
    apply(&mut seen, planned);
    assert!(seen.held.is_empty() && seen.told.is_empty() && plan(&seen) == Plan::Settled);
}
