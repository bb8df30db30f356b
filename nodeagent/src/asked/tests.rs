use std::net::{TcpListener, UdpSocket};

use machine::Root;

use super::*;
use crate::controllers::namespace::Namespace;

fn inside<T: Send>(namespace: &Namespace, work: impl AsyncFnOnce() -> T + Send) -> T {
    namespace.enter(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work()))
}

#[test]
fn sockets_that_wait_are_told_with_their_owner() {
    let namespace = Namespace::new();
    namespace.run("ip link set lo up");
    let (tcp, udp) = namespace.enter(|| (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap()));
    let connected = namespace.enter(|| {
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        connected
    });
    let sockets = inside(&namespace, async || sockets::list(&Root::new("/")).await.unwrap());
    let (tcp, udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    let names: Vec<&String> = sockets.keys().collect();
    assert_eq!(names, [&format!("tcp/{tcp}"), &format!("udp/{udp}")], "one is connected to {:?}", connected.local_addr());
    let socket = &sockets[&format!("tcp/{tcp}")];
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!((socket.port, socket.pid, socket.program.as_str()), (tcp.port(), Some(std::process::id()), comm.trim()));
}

#[test]
fn neighbours_are_told_with_their_link() {
    let (namespace, other) = (Namespace::new(), Namespace::new());
    namespace.run(&format!("ip link add eth0 type veth peer name eth0 netns {}", other.pid()));
    namespace.run("ip link set eth0 up");
    namespace.run("ip neighbour add 192.0.2.7 lladdr 02:00:00:00:00:07 dev eth0");
    let neighbours = inside(&namespace, async || neighbours::list().await.unwrap());
    let told = Neighbour {
        link: "eth0".to_owned(),
        address: "192.0.2.7".parse().unwrap(),
        hardware_address: "02:00:00:00:00:07".to_owned(),
        state: "permanent".to_owned(),
    };
    assert_eq!(neighbours.into_iter().collect::<Vec<_>>(), [("eth0/192.0.2.7".to_owned(), told)]);
}
