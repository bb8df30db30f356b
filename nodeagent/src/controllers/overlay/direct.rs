//! Machines on one link send pods' packets as they are, and use the tunnel for all others: against the real kernel.

use std::collections::BTreeMap;

use ::machine::config::OverlayBackend;

use super::members::{Families, Member, Switch, cluster, settle_all};
use crate::resources::overlay::ClusterNode;

const BOTH: Families = Families { v4: true, v6: true };

fn of_backend(switch: &Switch, members: u8) -> (Vec<Member>, BTreeMap<String, ClusterNode>) {
    let (mut members, nodes) = cluster(switch, members, BOTH);
    members.iter_mut().for_each(|member| member.backend = OverlayBackend::HostGateway);
    (members, nodes)
}

fn ways(member: &Member) -> String {
    let both = [["ip", "-4", "route", "show", "proto", "178"], ["ip", "-6", "route", "show", "proto", "178"]];
    let lines = both.map(|command| member.host.text(&command));
    lines.concat().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The last one is in another network, which the others reach by a router: here by the same wire.
fn move_elsewhere(members: &mut [Member], nodes: &mut BTreeMap<String, ClusterNode>) {
    let (last, others) = members.split_last_mut().unwrap();
    let number = last.number;
    for command in [
        format!("ip address del 192.0.2.{number}/24 dev eth0"),
        format!("ip address add 198.51.100.{number}/24 dev eth0"),
        "ip route add 192.0.2.0/24 dev eth0".to_owned(),
        format!("ip address del 2001:db8::{number}/64 dev eth0"),
        format!("ip address add 2001:db8:1::{number}/64 dev eth0 nodad"),
        "ip route add 2001:db8::/64 dev eth0".to_owned(),
    ] {
        last.host.run(&command);
    }
    for other in others {
        other.host.run("ip route add 198.51.100.0/24 dev eth0");
        other.host.run("ip route add 2001:db8:1::/64 dev eth0");
    }
    let node = nodes.get_mut(&last.name()).unwrap();
    node.addresses = vec![format!("198.51.100.{number}").parse().unwrap(), format!("2001:db8:1::{number}").parse().unwrap()];
    last.node_ips = Some(node.addresses.clone());
}

#[test]
fn pods_on_one_link_are_reached_without_a_tunnel_and_all_others_with_one() {
    let switch = Switch::new();
    let (mut members, mut nodes) = of_backend(&switch, 3);
    move_elsewhere(&mut members, &mut nodes);
    settle_all(&mut members, &mut nodes);
    assert_eq!(
        ways(&members[0]),
        "10.244.2.0/24 via 192.0.2.2 dev eth0\n\
         10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink\n\
         fd00:0:0:2::/64 via 2001:db8::2 dev eth0 metric 1024 pref medium\n\
         fd00:0:0:3::/64 via fd00:0:0:3:: dev flannel-v6.1 metric 1024 onlink pref medium\n"
    );
    let by: Vec<&str> = members[0].peers.values().map(|peer| peer.by.as_str()).collect();
    assert_eq!(by, ["direct", "vxlan"]);
    // Pods send 1500 bytes: what the tunnel does not carry their own machine tells them.
    let mtus: Vec<u32> = members[0].overlays.values().map(|overlay| overlay.mtu).collect();
    assert_eq!(mtus, [1500, 1500]);
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
        for ipv6 in [false, true] {
            assert!(members[from].reaches(&members[to], ipv6), "{from} to {to}, IPv6 {ipv6}");
        }
    }
}

#[test]
fn routes_that_went_with_the_link_come_back_with_it() {
    let switch = Switch::new();
    let (mut members, mut nodes) = of_backend(&switch, 2);
    settle_all(&mut members, &mut nodes);
    let before = ways(&members[0]);
    assert_eq!(before.matches("dev eth0").count(), 2, "{before}");
    members[0].host.run("ip link set eth0 down");
    assert_eq!(ways(&members[0]).matches("dev eth0").count(), 0);
    members[0].host.run("ip link set eth0 up");
    members[0].host.run("ip address replace 2001:db8::1/64 dev eth0 nodad");
    assert_eq!(members[0].settle(&mut nodes), 2, "both routes");
    assert_eq!(ways(&members[0]), before);
    assert!(members[0].reaches(&members[1], false) && members[1].reaches(&members[0], true));
}

/// Machine by machine, from one backend to the other: those with VXLAN get VXLAN from all.
#[test]
fn a_cluster_changes_its_backend_machine_by_machine() {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 3, BOTH);
    settle_all(&mut members, &mut nodes);
    for changed in 0..3 {
        members[changed].backend = OverlayBackend::HostGateway;
        settle_all(&mut members, &mut nodes);
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            assert!(members[from].reaches(&members[to], false) && members[to].reaches(&members[from], true), "{from} to {to}");
        }
    }
    assert_eq!(ways(&members[0]).matches("dev eth0").count(), 4, "{}", ways(&members[0]));
}
