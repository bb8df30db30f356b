//! Packets between pods on two machines: through the overlay, through a tunnel that is made by hand, through flannel's, and by routes alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ::machine::config::OverlayBackend;
use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::super::flanneld;
use super::super::members::{Families, Member, Switch, cluster, settle_all};
use crate::components::component;
use crate::controllers::program::Program;
use crate::figures::{figure, micros, quantile, rounds};

const V4: Families = Families { v4: true, v6: false };
/// Of one stream in one round.
const STREAM: Duration = Duration::from_secs(3);
/// There and back, one after the other.
const PINGS: usize = 5000;

/// Two machines with a pod each, and a way between them.
struct Pair {
    members: Vec<Member>,
    _switch: Switch,
    _running: Vec<Program>,
}

fn ours(backend: OverlayBackend, mtu: u32) -> Pair {
    let switch = Switch::new();
    let (mut members, mut nodes) = cluster(&switch, 2, V4);
    members.iter_mut().for_each(|member| member.backend = backend);
    settle_all(&mut members, &mut nodes);
    pods_send(&members, mtu);
    Pair { members, _switch: switch, _running: Vec::new() }
}

/// As the CNI plugin makes pods' links.
fn pods_send(members: &[Member], mtu: u32) {
    for member in members {
        member.pod.run(&format!("ip link set eth0 mtu {mtu}"));
        member.host.run(&format!("ip link set pod0 mtu {mtu}"));
    }
}

fn hand_made() -> Pair {
    let switch = Switch::new();
    let (members, _) = cluster(&switch, 2, V4);
    for (own, other) in [(1, 2), (2, 1)] {
        let host = &members[own - 1].host;
        for command in [
            format!("ip link add vx type vxlan id 1 dstport 8472 local 192.0.2.{own} nolearning"),
            format!("ip link set vx address 02:00:00:00:00:0{own} mtu 1450 up"),
            format!("ip address add 10.244.{own}.0/32 dev vx"),
            format!("bridge fdb append 02:00:00:00:00:0{other} dev vx dst 192.0.2.{other}"),
            format!("ip neigh add 10.244.{other}.0 lladdr 02:00:00:00:00:0{other} dev vx nud permanent"),
            format!("ip route add 10.244.{other}.0/24 via 10.244.{other}.0 dev vx onlink"),
        ] {
            host.run(&command);
        }
    }
    pods_send(&members, 1450);
    Pair { members, _switch: switch, _running: Vec::new() }
}

fn routes_alone() -> Pair {
    let switch = Switch::new();
    let (members, _) = cluster(&switch, 2, V4);
    for (own, other) in [(1, 2), (2, 1)] {
        members[own - 1].host.run(&format!("ip route add 10.244.{other}.0/24 via 192.0.2.{other}"));
    }
    Pair { members, _switch: switch, _running: Vec::new() }
}

/// flannel's daemon on both machines, and an etcd on the wire between them.
fn flannel() -> Pair {
    let switch = Switch::new();
    let (members, _) = cluster(&switch, 2, V4);
    switch.0.run("ip link set lo up");
    switch.0.run("ip address add 192.0.2.254/24 dev wire");
    let folder = tempfile::tempdir().unwrap();
    let url = "http://192.0.2.254:2379";
    let mut etcd = switch.0.command(component("etcd/bin/etcd"));
    etcd.args(["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", "http://127.0.0.1:2380"]);
    etcd.arg("--data-dir").arg(folder.path().join("data"));
    let mut running = vec![Program::start(&mut etcd, folder).unwrap()];
    let (config, etcdctl) = (flanneld::network_in_etcd(), component("etcd/bin/etcdctl"));
    patiently("etcd takes the network's config", || {
        let put = ["--endpoints", url, "--command-timeout", "2s", "put", "/coreos.com/network/config", &config];
        switch.0.command(&etcdctl).args(put).output().unwrap().status.success()
    });
    for member in &members {
        running.push(flanneld::with_etcd(&member.host, url, &format!("10.244.{}.0/24", member.number)).unwrap());
    }
    patiently("flannel knows the way", || {
        members.iter().all(|member| member.host.text(&["ip", "route"]).lines().any(|line| line.contains("dev flannel.1 onlink")))
    });
    pods_send(&members, 1450);
    Pair { members, _switch: switch, _running: running }
}

fn patiently(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn thread_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

/// Gigabits a second of one stream, and microseconds of the two threads' processor time for a mebibyte: what the kernel does for packets, it
/// does for the most part in their names.
fn stream(pair: &Pair) -> (f64, f64) {
    let [from, to] = pair.members.as_slice() else { panic!("not two") };
    let listener = to.pod.enter(|| TcpListener::bind(SocketAddr::new(to.pod_address(false), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut bytes, mut buffer, began, cpu) = (0_u64, vec![0; 256 * 1024], Instant::now(), thread_time());
            loop {
                match stream.read(&mut buffer).unwrap() {
                    0 => return (bytes, began.elapsed(), thread_time() - cpu),
                    count => bytes += count as u64,
                }
            }
        });
        let sent = from.pod.enter(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            let (buffer, began, cpu) = (vec![7; 128 * 1024], Instant::now(), thread_time());
            while began.elapsed() < STREAM {
                stream.write_all(&buffer).unwrap();
            }
            thread_time() - cpu
        });
        let (bytes, took, received) = receiving.join().unwrap();
        (bytes as f64 * 8e-9 / took.as_secs_f64(), micros(sent + received) / (bytes as f64 / 1_048_576.0))
    })
}

/// Microseconds there and back of a byte: the middle, and the ninety-ninth of a hundred.
fn pings(pair: &Pair) -> (f64, f64) {
    let [from, to] = pair.members.as_slice() else { panic!("not two") };
    let listener = to.pod.enter(|| TcpListener::bind(SocketAddr::new(to.pod_address(false), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() {
                stream.write_all(&byte).unwrap();
            }
        });
        let times = from.pod.enter(|| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut byte = [1];
            let mut ping = || {
                let began = Instant::now();
                stream.write_all(&byte).unwrap();
                stream.read_exact(&mut byte).unwrap();
                micros(began.elapsed())
            };
            (0..PINGS).map(|_| ping()).collect::<Vec<f64>>()
        });
        (quantile(&times, 0.5), quantile(&times, 0.99))
    })
}

#[derive(Debug, Default)]
struct Measured {
    rate: Vec<f64>,
    cpu: Vec<f64>,
    middle: Vec<f64>,
    tail: Vec<f64>,
}

#[test]
#[ignore = "a benchmark: make bench T=overlay"]
fn figures() {
    let pairs = [
        ("ours", ours(OverlayBackend::Vxlan, 1450)),
        ("ours, direct", ours(OverlayBackend::HostGateway, 1500)),
        ("hand-made VXLAN", hand_made()),
        ("routes alone", routes_alone()),
        ("flannel", flannel()),
    ];
    let mut measured: Vec<Measured> = pairs.iter().map(|_| Measured::default()).collect();
    for round in 0..=rounds() {
        for ((_, pair), measured) in pairs.iter().zip(&mut measured) {
            let ((rate, cpu), (middle, tail)) = (stream(pair), pings(pair));
            // The first round warms up.
            if round > 0 {
                measured.rate.push(rate);
                measured.cpu.push(cpu);
                measured.middle.push(middle);
                measured.tail.push(tail);
            }
        }
    }
    let of = |name: &str| pairs.iter().position(|(of, _)| *of == name).map(|index| &measured[index]);
    for (own, name, at_least, at_most) in [
        ("ours", "hand-made VXLAN", json!({ "ratioAtLeast": 0.97 }), json!({ "ratioAtMost": 1.03 })),
        ("ours", "flannel", json!({ "ratioAtLeast": 1.0 }), json!({ "ratioAtMost": 1.0 })),
        ("ours", "routes alone", json!({ "ratioAtLeast": 0.85 }), json!("none")),
        ("ours, direct", "routes alone", json!({ "ratioAtLeast": 0.97 }), json!({ "ratioAtMost": 1.03 })),
    ] {
        let (Some(ours), Some(peer)) = (of(own), of(name)) else { continue };
        let beside = format!("{own}, beside {name}");
        figure(&format!("one stream: {beside}"), "gigabitsPerSecond", &ours.rate, Some(&peer.rate), at_least);
        figure(&format!("CPU a MiB: {beside}"), "microseconds", &ours.cpu, Some(&peer.cpu), at_most.clone());
        figure(&format!("there and back, p50: {beside}"), "microseconds", &ours.middle, Some(&peer.middle), at_most);
        figure(&format!("there and back, p99: {beside}"), "microseconds", &ours.tail, Some(&peer.tail), json!("none"));
    }
}
