//! Five hundred peers into the kernel: in batches, and one acknowledged call after the other, as flannel does it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, TokioSocket};
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
    Batches,
    OneByOne,
}

async fn one_by_one(netlink: &Handle, operations: Vec<Operation>) {
    let index = kernel::index(netlink, "flannel.1").await.unwrap();
    // flannel opens a socket for each call; here all have one.
    let mut socket = TokioSocket::new(NETLINK_ROUTE).unwrap();
    for Operation { verb, entry } in operations {
        let message: message::Message<RouteNetlinkMessage> = message::operation(verb, &entry, index).unwrap();
        assert_eq!(batch::send_batch(&mut socket, &[message]).await.unwrap(), Vec::<String>::new());
    }
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
                let began = Instant::now();
                match how {
                    How::Batches => apply::apply(Action::Program(operations), &agent.board, &netlink, || None).await.unwrap(),
                    How::OneByOne => one_by_one(&netlink, operations).await,
                }
                programming += began.elapsed();
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
    let (mut batches, mut single, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds().max(5) {
        for how in [How::Batches, How::OneByOne] {
            let switch = Switch::new();
            let agent = Agent::new(&switch);
            let (programming, all) = inside(&agent, async || round(&agent, &peers, how).await);
            match how {
                How::Batches => {
                    batches.push(micros(programming));
                    whole.push(micros(all));
                }
                How::OneByOne => single.push(micros(programming)),
            }
        }
    }
    figure("500 peers programmed, beside acknowledged calls", "microseconds", &batches, Some(&single), json!({ "ratioAtMost": 0.2 }));
    figure("500 peers programmed", "microseconds", &batches, None, json!({ "atMost": 50_000.0 }));
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
