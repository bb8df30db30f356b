//! Machines that reach each other's pods, against the real kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::members::{Families, Member, Switch, cluster, settle_all};
use super::packets::PATIENCE;
use super::plan::{Seen, plan};
use super::*;
use crate::init_client::InitClient;
use crate::plan::Plan;
use crate::resources::overlay::{OverlayPath, PeerState};

#[test]
fn pods_reach_each_other_across_machines() {
    for families in [Families { v4: true, v6: false }, Families { v4: true, v6: true }, Families { v4: false, v6: true }] {
        let switch = Switch::new();
        let (mut members, mut nodes) = cluster(&switch, 3, families);
        assert!(!members[0].reaches(&members[1], families.v6), "without an overlay there is no way");
        settle_all(&mut members, &mut nodes);
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
            for ipv6 in members[0].both(false, true) {
                assert!(members[from].reaches(&members[to], ipv6), "{from} to {to}, IPv6 {ipv6}, {families:?}");
            }
        }
        let mtus: Vec<u32> = members[0].overlays.values().map(|overlay| overlay.mtu).collect();
        assert_eq!(mtus, members[0].both(1450, 1430).into_iter().rev().collect::<Vec<u32>>(), "{:?}", members[0].overlays);
    }
}

/// Numbered datagrams from pod to pod all the while agents start anew and another machine comes and goes: none is lost.
#[test]
fn an_agent_that_starts_anew_loses_no_packet() {
    const EVERY: Duration = Duration::from_millis(1);
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: false });
    settle_all(&mut members, &mut nodes);
    let bind = |member: &Member| member.pod.enter(|| UdpSocket::bind(SocketAddr::new(member.pod_address(false), 9000)).unwrap());
    let (from, to) = (bind(&members[0]), bind(&members[1]));
    to.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = to.local_addr().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let mut number = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                from.send_to(&number.to_be_bytes(), target).unwrap();
                number += 1;
                std::thread::sleep(EVERY);
            }
            number
        });
        let receiving = scope.spawn(|| {
            let (mut received, mut bytes) = (0_u32, [0; 4]);
            while to.recv(&mut bytes).is_ok() {
                received += 1;
            }
            received
        });
        let gone = nodes.remove("node-3").unwrap();
        for _ in 0..5 {
            for member in &mut members[..2] {
                member.settle(&mut nodes);
            }
            if nodes.remove("node-3").is_none() {
                nodes.insert("node-3".to_owned(), gone.clone());
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let sent = sending.join().unwrap();
        assert!(sent > 10);
        assert_eq!(receiving.join().unwrap(), sent);
    });
}

#[test]
fn a_machine_that_leaves_takes_its_entries_along_and_others_routes_stay() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: false });
    // Somebody else's: to a network of their own, and by a tunnel of their own.
    members[0].host.run("ip route add 198.51.100.0/24 via 192.0.2.77");
    members[0].host.run("ip link add flannel.7 type vxlan id 7 dstport 4789 nolearning");
    members[0].host.run("bridge fdb append 02:00:00:00:00:77 dev flannel.7 dst 192.0.2.77");
    let foreign = |member: &Member| {
        let routes = member.host.text(&["ip", "route", "show", "198.51.100.0/24"]);
        routes + &member.host.text(&["bridge", "fdb", "show", "dev", "flannel.7"])
    };
    let before = foreign(&members[0]);
    assert!(before.contains("198.51.100.0/24") && before.contains("02:00:00:00:00:77"), "{before}");
    settle_all(&mut members, &mut nodes);
    assert_eq!(members[0].host.text(&["ip", "route", "show", "proto", "178"]).lines().count(), 2);

    let left = nodes.remove("node-3").unwrap();
    members[0].settle(&mut nodes);
    assert_eq!(members[0].host.text(&["ip", "route", "show", "proto", "178"]).lines().count(), 1);
    assert_eq!(members[0].host.text(&["bridge", "fdb", "show", "dev", "flannel.1"]).lines().count(), 1);
    assert_eq!(members[0].host.text(&["ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"]).lines().count(), 1);
    assert!(!members[0].reaches(&members[2], false));
    assert_eq!(foreign(&members[0]), before);

    // It comes back with another address: what is there is changed, not made anew.
    nodes.insert("node-3".to_owned(), left);
    settle_all(&mut members, &mut nodes);
    members[2].host.run("ip address del 192.0.2.3/24 dev eth0");
    members[2].host.run("ip address add 192.0.2.33/24 dev eth0");
    members[2].address = 33;
    nodes.get_mut("node-3").unwrap().addresses = members[2].node().addresses;
    assert_eq!(members[2].settle(&mut nodes), 1, "the device's source address");
    assert_eq!(members[0].settle(&mut nodes), 1, "where its packets go");
    settle_all(&mut members, &mut nodes);
    assert!(members[0].reaches(&members[2], false) && members[2].reaches(&members[1], false));
    assert_eq!(foreign(&members[0]), before);
}

/// Each of these is followed at the next look, and told.
#[test]
fn what_becomes_of_the_link_below_is_followed() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 2, Families { v4: true, v6: true });
    settle_all(&mut members, &mut nodes);
    members[0].host.run("ip link set eth0 mtu 1400");
    assert_eq!(members[0].settle(&mut nodes), 2, "the MTU of both devices");
    let mtus: Vec<u32> = members[0].overlays.values().map(|overlay| overlay.mtu).collect();
    assert_eq!(mtus, [1330, 1350]);
    assert!(members[0].host.text(&["ip", "link", "show", "flannel.1"]).contains("mtu 1350"));
    assert!(members[0].reaches(&members[1], false) && members[1].reaches(&members[0], true));

    members[0].host.run("ip link set eth0 down");
    assert_eq!(members[0].settle(&mut nodes), 0, "nothing is touched");
    assert!(!members[0].reaches(&members[1], false));
    members[0].host.run("ip link set eth0 up");
    members[0].host.run("ip address replace 2001:db8::1/64 dev eth0 nodad");
    assert_eq!(members[0].settle(&mut nodes), 0);
    assert!(members[0].reaches(&members[1], false) && members[1].reaches(&members[0], true));
}

/// What the health gate asks.
#[test]
fn peers_that_answered_have_to_answer_again() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: true });
    settle_all(&mut members, &mut nodes);
    let directory = tempfile::tempdir().unwrap();
    let root = ::machine::Root::new(directory.path());
    let board = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let asked = ["node-2".to_owned(), "node-3".to_owned()];
    let still = |member: &Member, board: &Node| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        member.host.enter(|| runtime().block_on(async { (reach::answering(board).await, reach::still(board, &asked).await) }))
    };
    assert_eq!(still(&members[0], &board), (BTreeSet::new(), Err("this machine is not in the overlay yet".to_owned())));
    board.store.replace(members[0].overlays.clone());
    board.store.replace(members[0].peers.clone());
    board.store.replace(nodes.clone());
    assert_eq!(still(&members[0], &board), (BTreeSet::from(asked.clone()), Ok(())));

    members[2].host.run("ip link set eth0 down");
    let (answering, silent) = still(&members[0], &board);
    assert_eq!(answering, BTreeSet::from(["node-2".to_owned()]));
    assert!(silent.as_ref().unwrap_err().starts_with("node-3: 10.244.3.0: "), "{silent:?}");
    nodes.get_mut("node-3").unwrap().ready = false;
    board.store.replace(nodes.clone());
    assert_eq!(still(&members[0], &board).1, Ok(()), "one that is not Ready is not this machine's fault");
    nodes.remove("node-3");
    board.store.replace(nodes);
    assert_eq!(still(&members[0], &board).1, Ok(()));
}

/// What `machinectl get overlaypaths` shows, of a peer that answers, and of one whose link goes down.
#[test]
fn what_becomes_of_packets_is_told() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: true });
    settle_all(&mut members, &mut nodes);
    let root = ::machine::Root::new("/nonexistent");
    let board = Node::new(root.clone(), InitClient::new(root.init_socket()));
    board.store.replace(members[0].peers.clone());
    board.store.replace(nodes.clone());
    let mut paths = paths::Paths::default();
    let mut round = |member: &Member| {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        member.host.enter(|| runtime().block_on(paths.round(&board)));
        board.store.all::<OverlayPath>()
    };
    round(&members[0]);
    let told = round(&members[0]);
    assert_eq!(told.keys().collect::<Vec<_>>(), ["node-2", "node-3"]);
    assert!(told.values().all(|path| (path.tries, path.loss_percent) == (2, 0) && path.latency_micros.is_some()), "{told:?}");
    members[2].host.run("ip link set eth0 down");
    let told = round(&members[0]);
    assert_eq!((told["node-2"].loss_percent, told["node-3"].loss_percent), (0, 33), "{told:?}");
    assert_eq!(told["node-3"].message, "10.244.3.0: no answer within 0.95 s");
    board.store.remove::<OverlayPeer>("node-3");
    assert_eq!(round(&members[0]).keys().collect::<Vec<_>>(), ["node-2"]);
}

/// A device of the same name, and a route to a peer's pods, that others made.
#[test]
fn what_others_made_is_told_of_and_left() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, Families { v4: true, v6: false });
    members[0].host.run("ip route add 10.244.2.0/24 via 192.0.2.77");
    settle_all(&mut members, &mut nodes);
    let refused = &members[0].peers["node-2"];
    assert_eq!((refused.state, members[0].peers["node-3"].state), (PeerState::Refused, PeerState::Connected));
    assert_eq!(refused.message, "this machine has a route to 10.244.2.0/24 already that is not the overlay's");
    assert!(members[0].reaches(&members[2], false));
    members[0].host.run("ip route del 10.244.2.0/24");
    members[0].settle(&mut nodes);
    assert!(members[0].reaches(&members[1], false));

    let other = Member::new(&switch, 9, Families { v4: true, v6: false });
    other.host.run("ip link add flannel.1 type vxlan id 1 dstport 8472 nolearning");
    let kernel = other.host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { kernel::read(&crate::controllers::network::connect().unwrap()).await.unwrap() })
    });
    nodes.insert(other.name(), other.node());
    let seen =
        Seen { machine: Ok(other.machine()), machine_id: String::new(), nodes, kernel, overlays: BTreeMap::new(), peers: BTreeMap::new() };
    let Plan::Waiting(missing) = plan(&seen) else { panic!() };
    assert_eq!(missing[0].to_string(), "link flannel.1, which somebody else made, to go");
}
