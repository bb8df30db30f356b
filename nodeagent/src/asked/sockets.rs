//! Sockets that wait for others to speak: TCP that listens, and UDP without another end. The kernel tells them (sock_diag(7)); whose they are is read from
//! /proc.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr as Ends;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use machine::Root;
use metrics::Place;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::time::timeout;

use crate::resources::network::Socket;

const DEADLINE: Duration = Duration::from_secs(10);

pub async fn list(root: &Root) -> anyhow::Result<BTreeMap<String, Socket>> {
    let mut found = Vec::new();
    for (protocol, number, states) in [("tcp", IPPROTO_TCP, StateFlags::LISTEN), ("udp", IPPROTO_UDP, StateFlags::CLOSE)] {
        for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            let request =
                InetRequest { family, protocol: number, extensions: ExtensionFlags::empty(), states: states.clone(), socket_id: id };
            let sockets = timeout(DEADLINE, ask(request)).await.context("waiting for the kernel's sockets")??;
            found.extend(sockets.into_iter().map(|socket| (protocol, socket)));
        }
    }
    let proc = root.path("/proc");
    tokio::task::spawn_blocking(move || described(found, &proc)).await.context("looking into /proc")
}

async fn ask(request: InetRequest) -> anyhow::Result<Vec<InetResponseHeader>> {
    let socket = TokioSocket::new(NETLINK_SOCK_DIAG).context("opening a netlink socket")?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(SockDiagMessage::InetRequest(request)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.context("asking the kernel for sockets")?;
    let mut found = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().await.context("reading sockets")?;
        let mut rest: &[u8] = &datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).context("reading the kernel's answer")?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => found.push(response.header),
                NetlinkPayload::Done(_) => return Ok(found),
                NetlinkPayload::Error(error) => bail!("listing sockets: {error}"),
                _ => {}
            }
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

/// Of several at one place, which share it, one is told.
fn described(found: Vec<(&str, InetResponseHeader)>, proc: &Path) -> BTreeMap<String, Socket> {
    let owners = owners(proc);
    let describe = |(protocol, socket): (&str, InetResponseHeader)| {
        let ends = Ends::new(socket.socket_id.source_address, socket.socket_id.source_port);
        let owner = owners.get(&socket.inode).copied();
        let path = |file: &str| owner.map(|pid| std::fs::read_to_string(proc.join(pid.to_string()).join(file)).unwrap_or_default());
        let socket = Socket {
            protocol: protocol.to_owned(),
            address: ends.ip(),
            port: ends.port(),
            pid: owner,
            program: path("comm").unwrap_or_default().trim().to_owned(),
            owner: path("cgroup").map(|text| service(&text)).unwrap_or_default(),
        };
        (format!("{protocol}/{ends}"), socket)
    };
    found.into_iter().map(describe).collect()
}

/// By the number of a socket, a process that has it open.
fn owners(proc: &Path) -> HashMap<u32, u32> {
    let mut owners = HashMap::new();
    for process in std::fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end meanwhile.
        for open in std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(open.path()) else { continue };
            let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                owners.entry(inode).or_insert(pid);
            }
        }
    }
    owners
}

/// The service, or the pod's uid, that /proc/<pid>/cgroup is about.
fn service(cgroup: &str) -> String {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let mut place = Place::Root;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        // Deeper than a service or a container it is the same one's.
        let Some(child) = place.child(name) else { break };
        place = child;
    }
    match &place {
        Place::Service(service) => service.name.to_string(),
        Place::Init => "init".to_owned(),
        other => other.pod_uid().map(|uid| format!("pod {uid}")).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_by_their_cgroup() {
        let uid = "0123456789abcdef0123456789abcdef";
        let container = format!("0::/kubepods/burstable/pod{uid}/{}/deep\n", "ab".repeat(32));
        let pod = format!("pod {uid}");
        for (cgroup, owner) in [
            ("0::/system/agent\n", "agent"),
            ("0::/system/containerd/inside\n", "containerd"),
            ("0::/init\n", "init"),
            (&container, &pod),
            ("0::/\n", ""),
            ("", ""),
        ] {
            assert_eq!(service(cgroup), owner, "{cgroup}");
        }
    }
}
