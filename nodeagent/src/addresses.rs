//! The addresses under which others reach this machine, as the board has them.

use std::net::{IpAddr, SocketAddr};

use crate::resources::link::Link;
use crate::resources::network::Address;
use crate::store::Store;

/// Addresses of links that lead out of the machine, sorted: no loopback, no link-local ones, none of bridges and tunnels of pods.
pub fn reachable(store: &Store) -> Vec<IpAddr> {
    let links = store.all::<Link>();
    let leads_out = |address: &Address| links.get(&address.link).is_some_and(Link::leads_out);
    let mut addresses: Vec<IpAddr> =
        store.all::<Address>().into_values().filter(leads_out).map(|address| address.address.addr()).filter(|ip| !is_local(ip)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// `192.0.2.1:50000, [2001:db8::1]:50000`
pub fn endpoints(addresses: &[IpAddr], port: u16) -> String {
    let endpoints: Vec<String> = addresses.iter().map(|address| SocketAddr::new(*address, port).to_string()).collect();
    endpoints.join(", ")
}

fn is_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::network::AddressState;

    #[test]
    fn only_what_leads_out_counts() {
        let store = Store::default();
        for (name, kind) in [("eth0", "ethernet"), ("cni0", "bridge"), ("lo", "loopback")] {
            let link = Link { kind: kind.to_owned(), ..Link::default() };
            store.put(name, &link);
        }
        for (link, address) in
            [("eth0", "192.0.2.7/24"), ("eth0", "fe80::1/64"), ("eth0", "2001:db8::7/64"), ("cni0", "10.244.0.1/24"), ("lo", "127.0.0.1/8")]
        {
            let address = Address { link: link.to_owned(), address: address.parse().unwrap(), owned: true, state: AddressState::default() };
            store.put(&address.name(), &address);
        }
        let addresses = reachable(&store);
        assert_eq!(endpoints(&addresses, 50000), "192.0.2.7:50000, [2001:db8::7]:50000");
    }
}
