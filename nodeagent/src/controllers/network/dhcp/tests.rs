//! The machine's network with a server of the test's own at the other end of a wire, in a network namespace (needs root).

mod refused;
mod server;
mod server6;

use std::collections::BTreeMap;

use dhcproto::v4::{DhcpOption, MessageType};
use futures::{FutureExt, StreamExt};
use ipnet::IpNet;
use machine::config::{Config, Interface};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{LinkUnspec, LinkVeth, MulticastGroup, new_multicast_connection};
use serde_json::json;
use server::{Conduct, SERVER, Server};

use crate::controllers::fixtures::{changed, machine};
use crate::controllers::namespace::{in_namespace, link_settings};
use crate::controllers::network::{Network, connect, publish};
use crate::init_client::InitClient;
use crate::node::{Applied, Node};
use crate::resources::link::Link;
use crate::resources::network::{Address, Duplicate, Lease, Resolvers, Route};

/// Of the router.
const NAME_SERVER: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x54);

/// Far more than anything here takes on a machine with nothing else to do.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(120);

/// A machine whose `eth0` leads to the server.
struct Lab {
    node: Node,
    server: Server,
    server6: server6::Server,
    netlink: rtnetlink::Handle,
    directory: tempfile::TempDir,
    config: Applied,
    agent: [tokio::task::JoinHandle<()>; 2],
}

impl Lab {
    async fn new(interface: serde_json::Value, conduct: Conduct) -> Lab {
        let netlink = connect().unwrap();
        netlink.link().add(LinkVeth::new("eth0", "peer0").build()).execute().await.unwrap();
        let index = nix::net::if_::if_nametoindex("peer0").unwrap();
        netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await.unwrap();
        let server = Server::start(conduct);
        let server6 = server6::Server::start();
        let directory = tempfile::tempdir().unwrap();
        link_settings(directory.path());
        let interface: Interface = serde_json::from_value(interface).unwrap();
        let change = |config: &mut Config| config.machine.network.interfaces = vec![interface];
        let config = Applied { generation: 1, config: changed(&machine("worker"), change).config };
        let (node, agent) = Lab::start(directory.path(), config.clone());
        Lab { node, server, server6, netlink, directory, config, agent }
    }

    fn start(directory: &std::path::Path, config: Applied) -> (Node, [tokio::task::JoinHandle<()>; 2]) {
        let root = ::machine::Root::new(directory);
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        node.set_config(config);
        let publishing = publish(node.clone());
        let controlling = crate::controller::run(Network::new().unwrap(), node.clone());
        (node, [tokio::spawn(async { publishing.await.unwrap() }), tokio::spawn(controlling)])
    }

    /// Another agent in place of this one.
    async fn start_anew(&mut self) {
        for task in &mut self.agent {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        (self.node, self.agent) = Lab::start(self.directory.path(), self.config.clone());
    }

    /// Another config.
    fn configure(&self, interface: serde_json::Value) {
        let interface: Interface = serde_json::from_value(interface).unwrap();
        let change = |config: &mut Config| config.machine.network.interfaces = vec![interface];
        self.node.set_config(Applied { generation: 2, config: changed(&machine("worker"), change).config });
    }

    /// The other end of the wire has an IPv6 address, and says so to whoever asks.
    async fn other_machine_has(&self, address: &str) {
        let other = nix::net::if_::if_nametoindex("peer0").unwrap();
        let mut address = self.netlink.address().add(other, address.parse().unwrap(), 128);
        address.message_mut().header.flags |= netlink_packet_route::address::AddressHeaderFlags::Nodad;
        address.execute().await.unwrap();
    }

    async fn set_up(&self, link: &str, up: bool) {
        let message = LinkUnspec::new_with_index(nix::net::if_::if_nametoindex(link).unwrap());
        let message = if up { message.up() } else { message.down() };
        self.netlink.link().set(message.build()).execute().await.unwrap();
    }

    /// Until this is so.
    async fn until(&self, what: &str, so: impl Fn(&Lab) -> bool) {
        let (mut board, mut events, mut asked) = (self.node.store.revision(), self.node.events.newest(), self.server.asked.subscribe());
        let waited = tokio::time::timeout(DEADLINE, async {
            loop {
                board.mark_unchanged();
                events.mark_unchanged();
                asked.mark_unchanged();
                if so(self) {
                    return;
                }
                tokio::select! {
                    changed = board.changed() => changed.unwrap(),
                    changed = events.changed() => changed.unwrap(),
                    changed = asked.changed() => changed.unwrap(),
                    // Files tell nobody.
                    () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
                }
            }
        });
        if waited.await.is_err() {
            let (addresses, links) = (self.node.store.all::<Address>(), self.node.store.all::<Link>());
            panic!("not so: {what}; {addresses:?} {links:?} {:?} {:?}", self.told(), *self.server.asked.borrow());
        }
    }

    /// All events: the word and the message.
    fn told(&self) -> Vec<(&'static str, String)> {
        let all = std::iter::successors(self.node.events.next(1), |event| self.node.events.next(event.number + 1));
        all.map(|event| (event.reason, event.message)).collect()
    }

    fn has_told(&self, reason: &str) -> bool {
        self.told().iter().any(|(told, _)| *told == reason)
    }

    /// Whether the kernel has the address on `eth0`.
    fn has(&self, address: &str) -> bool {
        let address: IpNet = address.parse().unwrap();
        self.node.store.all::<Address>().values().any(|there| there.address == address && there.link == "eth0")
    }

    /// The next hop of the default route.
    fn router(&self) -> Option<String> {
        let routes = self.node.store.all::<Route>();
        routes.values().find(|route| route.to.prefix_len() == 0 && route.owned).and_then(|route| route.via).map(|via| via.to_string())
    }

    fn count(&self, kind: MessageType) -> usize {
        self.server.asked.borrow().iter().filter(|asked| asked.kind == kind).count()
    }
}

fn by_dhcp() -> serde_json::Value {
    json!({ "name": "eth0", "dhcp": true })
}

#[test]
fn a_lease_is_renewed_given_up_at_its_end_and_taken_anew() {
    in_namespace(|| async {
        let lab = Lab::new(by_dhcp(), Conduct { seconds: 8, renew: 1, ..Conduct::granting(10) }).await;
        lab.until("a lease", |lab| lab.has("192.0.2.10/24") && lab.router() == Some(SERVER.to_string())).await;
        lab.until("renewals at the server's address", |lab| {
            lab.server.asked.borrow().iter().filter(|asked| asked.own == Some([192, 0, 2, 10].into()) && !asked.is_broadcast).count() >= 2
        })
        .await;
        lab.server.conduct(|conduct| conduct.is_silent = true);
        lab.until("no address and no route", |lab| !lab.has("192.0.2.10/24") && lab.router().is_none()).await;
        assert!(lab.node.store.all::<Lease>().is_empty());
        assert!(lab.has_told("LeaseNotRenewed") && lab.has_told("LeaseLost"), "{:?}", lab.told());
        // Any server was asked before that.
        assert!(lab.server.asked.borrow().iter().any(|asked| asked.own.is_some() && asked.is_broadcast));
        lab.server.conduct(|conduct| conduct.is_silent = false);
        lab.until("a lease again", |lab| lab.has("192.0.2.10/24") && lab.router().is_some()).await;
    });
}

#[test]
fn an_agent_that_starts_anew_does_not_take_the_address_away() {
    in_namespace(|| async {
        let mut lab = Lab::new(by_dhcp(), Conduct::granting(10)).await;
        lab.until("a lease", |lab| lab.has("192.0.2.10/24") && lab.router().is_some()).await;
        let kept = |lab: &Lab| std::fs::read(lab.directory.path().join("run/corten/leases/eth0")).ok();
        let before = kept(&lab).unwrap();
        let (connection, _, mut messages) = new_multicast_connection(&[MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route]).unwrap();
        tokio::spawn(connection);
        let asked = lab.count(MessageType::Discover);
        lab.start_anew().await;
        lab.until("it is confirmed", |lab| kept(lab).as_ref() != Some(&before)).await;
        lab.until("it is there", |lab| lab.has("192.0.2.10/24") && lab.router().is_some()).await;
        assert_eq!(lab.count(MessageType::Discover), asked, "it asked for any");
        while let Some(Some((message, _))) = messages.next().now_or_never() {
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            assert!(!matches!(message, RouteNetlinkMessage::DelAddress(_) | RouteNetlinkMessage::DelRoute(_)), "{message:?}");
        }
    });
}

#[test]
fn a_refused_renewal_leads_to_a_new_lease_at_once() {
    in_namespace(|| async {
        // It would be used for ten minutes more.
        let lab = Lab::new(by_dhcp(), Conduct { renew: 1, ..Conduct::granting(10) }).await;
        lab.until("a lease", |lab| lab.has("192.0.2.10/24")).await;
        lab.server.conduct(|conduct| conduct.last = 11);
        lab.until("another address", |lab| lab.has("192.0.2.11/24") && !lab.has("192.0.2.10/24")).await;
        assert!(lab.has_told("LeaseRefused"), "{:?}", lab.told());
    });
}

#[test]
fn what_a_renewal_changes_is_followed() {
    in_namespace(|| async {
        let lab = Lab::new(by_dhcp(), Conduct { renew: 1, ..Conduct::granting(10) }).await;
        lab.until("a lease", |lab| lab.has("192.0.2.10/24")).await;
        lab.server.conduct(|conduct| {
            conduct.options = vec![
                DhcpOption::Router(vec![[192, 0, 2, 2].into()]),
                DhcpOption::DomainNameServer(vec![[192, 0, 2, 3].into()]),
                DhcpOption::InterfaceMtu(1400),
            ];
        });
        lab.until("the router, the name server and the MTU of the renewal", |lab| {
            let resolvers = lab.node.store.get::<Resolvers>(Resolvers::NAME).unwrap_or_default();
            let mtu = lab.node.store.get::<Link>("eth0").map(|link| link.mtu);
            (lab.router().as_deref(), mtu) == (Some("192.0.2.2"), Some(1400))
                && resolvers.nameservers == [std::net::IpAddr::from([192, 0, 2, 3])]
        })
        .await;
        lab.until("it is told", |lab| lab.has_told("LeaseChanged") && lab.has_told("MtuChanged")).await;
        // Without a refusal.
        lab.server.conduct(|conduct| (conduct.last, conduct.moves) = (12, true));
        lab.until("the address of the renewal", |lab| lab.has("192.0.2.12/24") && !lab.has("192.0.2.10/24")).await;
        assert!(!lab.has_told("LeaseRefused") && !lab.has_told("LeaseLost"), "{:?}", lab.told());
    });
}

#[test]
fn a_lease_is_confirmed_when_the_carrier_is_back_and_given_up_in_another_network() {
    in_namespace(|| async {
        let lab = Lab::new(by_dhcp(), Conduct::granting(10)).await;
        lab.until("a lease", |lab| lab.has("192.0.2.10/24")).await;
        let before = lab.count(MessageType::Discover);
        let confirmations = |lab: &Lab| lab.server.asked.borrow().iter().filter(|asked| asked.is_confirmation()).count();
        lab.set_up("peer0", false).await;
        lab.until("the loss is told", |lab| lab.has_told("CarrierLost")).await;
        // It may come back to the same network.
        assert!(lab.has("192.0.2.10/24") && lab.node.store.all::<Lease>().len() == 1);
        lab.set_up("peer0", true).await;
        lab.until("a confirmation", |lab| confirmations(lab) > 0 && lab.has_told("CarrierBack")).await;
        lab.until("the route", |lab| lab.has("192.0.2.10/24") && lab.router().is_some()).await;
        assert_eq!(lab.count(MessageType::Discover), before, "a confirmed lease is no new one");

        lab.server.conduct(|conduct| conduct.last = 20);
        lab.set_up("peer0", false).await;
        lab.until("the loss is seen", |lab| lab.node.store.get::<Link>("eth0").is_some_and(|link| !link.carrier)).await;
        lab.set_up("peer0", true).await;
        lab.until("a lease of the other network", |lab| lab.has("192.0.2.20/24") && !lab.has("192.0.2.10/24")).await;
        assert!(lab.has_told("LeaseRefused"), "{:?}", lab.told());
    });
}

#[test]
fn an_address_that_another_machine_has_is_declined() {
    in_namespace(|| async {
        let other = ([192, 0, 2, 10].into(), [2, 0, 0, 0, 0, 0x77]);
        // On a machine with too much to do the answer may come too late: then the address is asked for again soon.
        let conduct = Conduct { neighbours: BTreeMap::from([other]), renew: 1, refuses_renewals: true, ..Conduct::granting(10) };
        let lab = Lab::new(by_dhcp(), conduct).await;
        lab.until("the address is declined", |lab| lab.count(MessageType::Decline) > 0).await;
        lab.server.conduct(|conduct| conduct.last = 11);
        lab.until("another address", |lab| lab.has("192.0.2.11/24")).await;
        let told: Vec<String> =
            lab.told().into_iter().filter(|(reason, _)| *reason == "DuplicateAddress").map(|(_, message)| message).collect();
        assert!(told.iter().all(|message| message.contains("02:00:00:00:00:77")) && !told.is_empty(), "{told:?}");
    });
}

#[test]
fn what_the_kernel_drops_with_a_link_that_goes_down_comes_back_with_it() {
    in_namespace(|| async {
        let interface = json!({ "name": "eth0", "addresses": ["192.0.2.50/24", "2001:db8::50/64"], "routes": [
            { "to": "0.0.0.0/0", "via": "192.0.2.1" }, { "to": "2001:db8:1::/48", "via": "2001:db8::1" },
        ] });
        let lab = Lab::new(interface, Conduct::granting(10)).await;
        let whole = |lab: &Lab| {
            let routes = lab.node.store.all::<Route>().values().filter(|route| route.owned).count();
            lab.has("192.0.2.50/24") && lab.has("2001:db8::50/64") && routes == 2
        };
        lab.until("addresses and routes", whole).await;
        let losses = |lab: &Lab| lab.node.store.get::<Link>("eth0").map(|link| (link.carrier, link.carrier_losses)).unwrap_or_default();
        let before = losses(&lab).1;
        // The carrier alone takes neither.
        lab.set_up("peer0", false).await;
        lab.until("no carrier", |lab| !losses(lab).0).await;
        lab.set_up("peer0", true).await;
        lab.until("a carrier, addresses and routes", |lab| losses(lab).0 && losses(lab).1 > before && whole(lab)).await;
        // Somebody takes the link down: the kernel drops routes and IPv6 addresses.
        let before = losses(&lab).1;
        lab.set_up("eth0", false).await;
        lab.until("the link is up again, with all that it had", |lab| losses(lab).0 && losses(lab).1 > before && whole(lab)).await;
    });
}

#[test]
fn an_address_of_the_config_that_another_machine_has_is_used_and_told() {
    in_namespace(|| async {
        let other = ([192, 0, 2, 50].into(), [2, 0, 0, 0, 0, 0x77]);
        let conduct = Conduct { neighbours: BTreeMap::from([other]), ..Conduct::granting(10) };
        let lab = Lab::new(json!({ "name": "eth0", "addresses": ["192.0.2.50/24", "192.0.2.51/24"] }), conduct).await;
        tokio::spawn(crate::controllers::network::watch_duplicates(lab.node.clone()));
        lab.until("the duplicate is told", |lab| lab.has_told("DuplicateAddress")).await;
        assert!(lab.has("192.0.2.50/24"));
        let told =
            |lab: &Lab| lab.node.store.all::<Duplicate>().into_values().map(|one| (one.name(), one.hardware_address)).collect::<Vec<_>>();
        assert_eq!(told(&lab), [("eth0/192.0.2.50".to_owned(), "02:00:00:00:00:77".to_owned())]);
        // It goes, and after a while nobody answers any more.
        lab.server.conduct(|conduct| conduct.neighbours.clear());
        lab.set_up("peer0", false).await;
        lab.until("nothing is said of an address that nobody can reach", |lab| told(lab).is_empty()).await;
    });
}

#[test]
fn the_mtu_of_the_config_counts_more_than_that_of_a_lease() {
    in_namespace(|| async {
        let mut conduct = Conduct::granting(10);
        conduct.options.push(DhcpOption::InterfaceMtu(1300));
        let lab = Lab::new(json!({ "name": "eth0", "dhcp": true, "mtu": 1450 }), conduct).await;
        lab.until("a lease", |lab| lab.has("192.0.2.10/24")).await;
        lab.until("the MTU of the config", |lab| lab.node.store.get::<Link>("eth0").is_some_and(|link| link.mtu == 1450)).await;
        assert_eq!(lab.node.store.get::<Lease>("eth0").and_then(|lease| lease.mtu), Some(1300));
    });
}

#[test]
fn an_mtu_that_somebody_sets_or_a_router_tells_is_followed_and_told() {
    in_namespace(|| async {
        let lab = Lab::new(json!({ "name": "eth0", "addresses": ["192.0.2.50/24"] }), Conduct::granting(10)).await;
        let mtus = |lab: &Lab| lab.node.store.get::<Link>("eth0").map(|link| (link.mtu, link.ipv6_mtu)).unwrap_or_default();
        lab.until("the address", |lab| lab.has("192.0.2.50/24") && mtus(lab) == (1500, None)).await;
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        lab.netlink.link().set(LinkUnspec::new_with_index(index).mtu(1350).build()).execute().await.unwrap();
        lab.until("another MTU", |lab| mtus(lab) == (1350, None)).await;
        lab.until("it is told", |lab| lab.told().contains(&("MtuChanged", "1500 -> 1350".to_owned()))).await;
        // A router's counts for IPv6 alone.
        lab.server.advertise(1280, NAME_SERVER, false);
        lab.until("the MTU of the router", |lab| mtus(lab) == (1350, Some(1280))).await;
        lab.until("it is told", |lab| lab.told().contains(&("MtuChanged", "of IPv6: 1350 -> 1280".to_owned()))).await;
    });
}

#[test]
fn an_ipv6_lease_is_confirmed_when_the_carrier_is_back() {
    in_namespace(|| async {
        let lab = Lab::new(json!({ "name": "eth0", "dhcp6": true }), Conduct::granting(10)).await;
        lab.until("a lease", |lab| lab.has("2001:db8::10/128")).await;
        let resolvers = |lab: &Lab| lab.node.store.get::<Resolvers>(Resolvers::NAME).unwrap_or_default().nameservers;
        lab.until("its name server", |lab| resolvers(lab) == ["2001:db8::53".parse::<std::net::IpAddr>().unwrap()]).await;
        assert_eq!(lab.count(MessageType::Discover), 0, "IPv4 was not asked for");
        // It is good for ten minutes.
        lab.set_up("peer0", false).await;
        lab.until("no carrier", |lab| lab.node.store.get::<Link>("eth0").is_some_and(|link| !link.carrier)).await;
        lab.set_up("peer0", true).await;
        lab.until("a confirmation", |lab| lab.server6.count(server6::Kind::Confirm) > 0).await;
        assert!(lab.has("2001:db8::10/128") && !lab.has_told("LeaseLost"), "{:?}", lab.told());
    });
}

#[test]
fn an_ipv6_lease_ends_with_its_time() {
    in_namespace(|| async {
        let lab = Lab::new(json!({ "name": "eth0", "dhcp6": true }), Conduct::granting(10)).await;
        lab.server6.conduct(|conduct| (conduct.seconds, conduct.renew) = (16, 1));
        lab.until("a lease", |lab| lab.has("2001:db8::10/128")).await;
        lab.until("renewals", |lab| lab.server6.count(server6::Kind::Renew) >= 2).await;
        lab.server6.conduct(|conduct| conduct.is_silent = true);
        lab.until("no address", |lab| !lab.has("2001:db8::10/128")).await;
        assert!(lab.node.store.all::<Lease>().is_empty());
        assert!(lab.has_told("LeaseNotRenewed") && lab.has_told("LeaseLost"), "{:?}", lab.told());
        assert!(lab.server6.count(server6::Kind::Rebind) > 0);
        lab.server6.conduct(|conduct| conduct.is_silent = false);
        lab.until("a lease again", |lab| lab.has("2001:db8::10/128")).await;
        // The server knows it no more, and gives another address.
        lab.server6.conduct(|conduct| conduct.last = 0x11);
        lab.until("another address", |lab| lab.has("2001:db8::11/128") && !lab.has("2001:db8::10/128")).await;
        assert!(lab.has_told("LeaseRefused"), "{:?}", lab.told());
    });
}

#[test]
fn a_router_says_whether_an_ipv6_address_is_asked_for() {
    in_namespace(|| async {
        let lab = Lab::new(by_dhcp(), Conduct::granting(10)).await;
        lab.until("a lease of IPv4", |lab| lab.has("192.0.2.10/24")).await;
        lab.server.advertise(1500, NAME_SERVER, true);
        lab.until("leases of both families", |lab| lab.has("2001:db8::10/128") && lab.has("192.0.2.10/24")).await;
        let names: Vec<String> = lab.node.store.all::<Lease>().into_keys().collect();
        assert_eq!(names, ["eth0", "eth0/ipv6"]);
    });
}

#[test]
fn a_routers_name_server_is_used_where_nobody_names_another() {
    in_namespace(|| async {
        let lab = Lab::new(json!({ "name": "eth0" }), Conduct::granting(10)).await;
        tokio::spawn(crate::controllers::network::watch_routers(lab.node.clone()));
        lab.server.advertise(1500, NAME_SERVER, false);
        let resolvers = |lab: &Lab| lab.node.store.get::<Resolvers>(Resolvers::NAME).unwrap_or_default().nameservers;
        lab.until("the router's name server", |lab| resolvers(lab) == [NAME_SERVER]).await;
        lab.set_up("peer0", false).await;
        lab.until("none without a carrier", |lab| resolvers(lab).is_empty()).await;
        lab.set_up("peer0", true).await;
        lab.until("the router's again", |lab| resolvers(lab) == [NAME_SERVER]).await;
    });
}

#[test]
fn an_ipv6_address_that_another_machine_has_is_declined() {
    in_namespace(|| async {
        let lab = Lab::new(json!({ "name": "eth0" }), Conduct::granting(10)).await;
        lab.other_machine_has("2001:db8::10").await;
        lab.configure(json!({ "name": "eth0", "dhcp6": true }));
        lab.until("the address is declined", |lab| lab.server6.count(server6::Kind::Decline) > 0).await;
        lab.server6.conduct(|conduct| conduct.last = 0x11);
        lab.until("another address", |lab| lab.has("2001:db8::11/128") && !lab.has("2001:db8::10/128")).await;
        assert!(lab.has_told("DuplicateAddress"), "{:?}", lab.told());
    });
}
