//! Five hundred peers into the kernel: in batches, one acknowledged call after the other as flannel does it, and what the kernel alone takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::Handle;
use serde_json::json;

use super::super::many::{Agent, Facts, PEERS};
use super::super::members::Switch;
use super::super::plan::{Action, plan};
use super::super::state::Operation;
use super::super::{apply, batch, kernel, message};
use crate::figures::{figure, micros, quantile, rounds};
use crate::plan::Plan;

/// Machines that join one after the other.
const JOINS: u16 = 100;

fn all(numbers: std::ops::RangeInclusive<u16>) -> BTreeMap<u16, Facts> {
    numbers.map(|number| (number, Facts { address: number, device: number })).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// As the agent does it.
    Batches,
    /// Calls on one socket.
    OneByOne,
    /// Calls on a socket each, which is how flannel's library makes them.
    SocketEach,
    /// The agent's batches, made before: the kernel's own time.
    Kernel,
}

const ALL: [How; 4] = [How::Batches, How::OneByOne, How::SocketEach, How::Kernel];

async fn messages(netlink: &Handle, operations: Vec<Operation>) -> Vec<message::Message> {
    let index = kernel::index(netlink, "flannel.1").await.unwrap();
    operations.iter().map(|Operation { verb, entry }| message::operation(*verb, entry, index).unwrap()).collect()
}

async fn one_by_one(messages: Vec<message::Message>, how: How) -> Duration {
    let began = Instant::now();
    let mut socket = TokioSocket::new(NETLINK_ROUTE).unwrap();
    for message in messages {
        if how == How::SocketEach {
            socket = TokioSocket::new(NETLINK_ROUTE).unwrap();
        }
        assert_eq!(batch::send_batch(&mut socket, &mut [message]).await.unwrap(), Vec::<String>::new());
    }
    began.elapsed()
}

async fn kernel_alone(mut messages: Vec<message::Message>) -> Duration {
    let batches: Vec<Vec<u8>> = messages.chunks_mut(batch::MOST).map(|batch| batch::bytes(batch).unwrap()).collect();
    let socket = TokioSocket::new(NETLINK_ROUTE).unwrap();
    let began = Instant::now();
    for batch in batches {
        socket.send_to(&batch, &SocketAddr::new(0, 0)).await.unwrap();
        let (datagram, _) = socket.recv_from_full().await.unwrap();
        let answers: Vec<_> = batch::answers::<RouteNetlinkMessage>(&datagram).map(|answer| answer.unwrap().payload).collect();
        assert!(matches!(answers.as_slice(), [NetlinkPayload::Error(error)] if error.code.is_none()), "{answers:?}");
    }
    began.elapsed()
}

/// A round of the agent: how long the peers' entries took, and how long all of it.
async fn round(agent: &Agent, peers: &BTreeMap<u16, Facts>, how: How) -> (Duration, Duration) {
    let netlink = crate::controllers::network::connect().unwrap();
    let (began, mut programming) = (Instant::now(), Duration::ZERO);
    let seen = agent.seen(peers, kernel::read(&netlink).await.unwrap());
    let Plan::Act(actions) = plan(&seen) else { panic!("nothing to do") };
    for action in actions {
        match action {
            Action::Program(operations) => {
                programming += match how {
                    How::Batches => {
                        let began = Instant::now();
                        apply::apply(Action::Program(operations), &agent.board, &netlink, || None).await.unwrap();
                        began.elapsed()
                    }
                    How::OneByOne | How::SocketEach => one_by_one(messages(&netlink, operations).await, how).await,
                    How::Kernel => kernel_alone(messages(&netlink, operations).await).await,
                };
            }
            Action::TellOverlays(_) | Action::TellPeers(_) | Action::Announce(_) => {}
            other => apply::apply(other, &agent.board, &netlink, || None).await.unwrap(),
        }
    }
    (programming, began.elapsed())
}

fn inside<T: Send>(agent: &Agent, work: impl AsyncFnOnce() -> T + Send) -> T {
    agent.member.host.enter(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work()))
}

#[test]
#[ignore = "a benchmark: make bench T=overlay"]
fn figures() {
    let peers = all(2..=PEERS + 1);
    let mut took = ALL.map(|_| Vec::new());
    let mut whole = Vec::new();
    for _ in 0..rounds().max(5) {
        for (how, took) in ALL.into_iter().zip(&mut took) {
            let switch = Switch::new();
            let agent = Agent::new(&switch);
            let (programming, all) = inside(&agent, async || round(&agent, &peers, how).await);
            took.push(micros(programming));
            if how == How::Batches {
                whole.push(micros(all));
            }
        }
    }
    let [batches, calls, sockets, kernel] = took;
    figure("500 peers programmed", "microseconds", &batches, None, json!({ "atMost": 50_000.0 }));
    figure("500 peers programmed, beside acknowledged calls", "microseconds", &batches, Some(&calls), json!({ "ratioAtMost": 0.2 }));
    figure("500 peers programmed, beside calls on a socket each", "microseconds", &batches, Some(&sockets), json!({ "ratioAtMost": 0.2 }));
    figure("500 peers programmed, beside the kernel's own time", "microseconds", &batches, Some(&kernel), json!("none"));
    figure("first round of an agent with 500 peers", "microseconds", &whole, None, json!("none"));

    let switch = Switch::new();
    let agent = Agent::new(&switch);
    inside(&agent, async || round(&agent, &all(2..=PEERS - JOINS + 1), How::Batches).await);
    let joins =
        (PEERS - JOINS + 2..=PEERS + 1).map(|last| micros(inside(&agent, async || round(&agent, &all(2..=last), How::Batches).await).1));
    let joins: Vec<f64> = joins.collect();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        figure(&format!("round for one more of 500, {name}"), "microseconds", &[quantile(&joins, share)], None, json!("none"));
    }
}
