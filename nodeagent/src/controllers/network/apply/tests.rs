//! Against the real kernel, in a network namespace of the test's own (needs root).

use machine::config::MAIN_TABLE;
use rtnetlink::LinkVeth;

use super::super::kernel;
use super::*;
pub use crate::controllers::namespace::{in_namespace, link_settings};
use crate::init_client::InitClient;
use crate::resources::network::AddressState;

pub async fn do_all(actions: Vec<Action>, netlink: &Handle) {
    let directory = tempfile::tempdir().unwrap();
    link_settings(directory.path());
    let root = machine::Root::new(directory.path());
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    for action in actions {
        apply(action, &node, netlink, &mut BTreeMap::new()).await.unwrap();
    }
}

mod ipv6;
mod links;

#[test]
fn addresses_and_routes_come_and_go_and_foreign_ones_stay() {
    in_namespace(|| async {
        let netlink = kernel::connect().unwrap();
        netlink.link().add(LinkVeth::new("eth0", "peer").build()).execute().await.unwrap();
        let address =
            Address { link: "eth0".into(), address: "192.0.2.10/24".parse().unwrap(), owned: true, state: AddressState::default() };
        let via = Some("192.0.2.1".parse().unwrap());
        let route = Route { link: "eth0".into(), to: "0.0.0.0/0".parse().unwrap(), via, metric: 1024, table: MAIN_TABLE, owned: true };
        let up = |link: &str, mtu| Action::SetLink { link: link.into(), up: true, mtu };
        let additions =
            vec![up("eth0", Some(1400)), up("peer", None), Action::AddAddress(address.clone()), Action::AddRoute(route.clone())];
        // Twice: what is there is no error.
        do_all(additions.clone(), &netlink).await;
        do_all(additions, &netlink).await;
        let seen = kernel::read(&netlink).await.unwrap();
        assert!(seen.links["eth0"].up);
        assert_eq!(seen.links["eth0"].mtu, 1400);
        assert!(seen.addresses.contains(&address), "{:?}", seen.addresses);
        assert!(seen.routes.contains(&route), "{:?}", seen.routes);
        // The kernel's own route to the link's network is there too, and not ours.
        assert!(seen.routes.iter().any(|route| route.to == "192.0.2.0/24".parse::<IpNet>().unwrap() && !route.owned));

        let removals = vec![Action::RemoveRoute(route), Action::RemoveAddress(address)];
        do_all(removals.clone(), &netlink).await;
        do_all(removals, &netlink).await;
        let seen = kernel::read(&netlink).await.unwrap();
        assert!(!seen.addresses.iter().any(|address| address.owned));
        assert!(!seen.routes.iter().any(|route| route.owned));
    });
}
