//! Which nodes' agents answer: the control plane that leads asks all of them every other second. A Node is not Ready some forty seconds after it
//! died, which is long for whoever waits for a Service; and what holds an address is the agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::api::v1::GetVersionRequest;
use ::api::v1::machine_client::MachineClient;
use controlplane::pki::MachineRole;
use futures::future::join_all;
use machine::config::{Host, HostPort};
use machine::stage::Stage;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;

use super::view::View;
use crate::agents;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::resources::overlay::ClusterNode;

const ROUND: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_millis(1500);
/// After so long without an answer others take over: a round that is lost is no reason yet.
const SILENCE: Duration = Duration::from_secs(5);

/// Whoever asks an agent whether it is there, and stays.
pub trait Ask: std::fmt::Debug + Send + Sync + 'static {
    fn ask(&self, node: &Node, machine: &Machine, name: &str, address: IpAddr) -> impl Future<Output = anyhow::Result<Answer>> + Send;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Stays,
    /// The machine is about to reboot or to shut down.
    Leaves,
}

/// The agents themselves, each over a connection that is kept.
#[derive(Debug, Default)]
pub struct Agents {
    connections: Mutex<BTreeMap<String, (IpAddr, Channel)>>,
}

impl Ask for Agents {
    async fn ask(&self, node: &Node, machine: &Machine, name: &str, address: IpAddr) -> anyhow::Result<Answer> {
        // It goes back once it has proved good.
        let kept = self.take(name).filter(|(of, _)| *of == address).map(|(_, channel)| channel);
        let channel = match kept {
            Some(channel) => channel,
            None => {
                let server = HostPort { host: Host::Address(address), port: ::api::PORT };
                agents::connect_as(node, machine, &server, MachineRole::Reader).await?
            }
        };
        let answer = MachineClient::new(channel.clone()).get_version(GetVersionRequest::default()).await?.into_inner();
        self.lock().insert(name.to_owned(), (address, channel));
        let leaves = [Stage::Rebooting, Stage::ShuttingDown, Stage::Resetting].iter().any(|stage| answer.stage == stage.name());
        Ok(if leaves { Answer::Leaves } else { Answer::Stays })
    }
}

impl Agents {
    fn take(&self, name: &str) -> Option<(IpAddr, Channel)> {
        self.lock().remove(name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (IpAddr, Channel)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// When it answered last, or was asked first.
    since: Instant,
    answering: Option<bool>,
}

pub async fn follow(node: Node, view: View, asks: impl Ask) {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if !view.picture().leads {
            known.clear();
            view.update(|state| state.answering.clear());
            view.until(|state| state.leads).await;
        }
        rounds.tick().await;
        let Ok(machine) = Machine::observe(&node) else { continue };
        let nodes = node.store.all::<ClusterNode>();
        let began = Instant::now();
        known.retain(|name, _| nodes.contains_key(name));
        let answers =
            join_all(nodes.iter().filter_map(|(name, there)| Some((name, *there.addresses.first()?))).map(async |(name, address)| {
                let answer = timeout(DEADLINE, asks.ask(&node, &machine, name, address)).await;
                (name.clone(), answer.map_err(anyhow::Error::from).and_then(|answer| answer))
            }));
        for (name, answer) in answers.await {
            if let Err(error) = &answer {
                tracing::debug!("agent of {name}: {error:#}");
            }
            let before = known.get(&name).copied().unwrap_or(Known { since: began, answering: None });
            known.insert(name, next(before, answer.ok(), Instant::now()));
        }
        let answering = known.iter().filter_map(|(name, known)| Some((name.clone(), known.answering?))).collect();
        view.update(|state| state.answering = if state.leads { answering } else { BTreeMap::new() });
    }
}

fn next(before: Known, answer: Option<Answer>, now: Instant) -> Known {
    match answer {
        Some(answer) => Known { since: now, answering: Some(answer == Answer::Stays) },
        None if now - before.since >= SILENCE => Known { answering: Some(false), ..before },
        None => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_round_is_no_silence() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let known = Known { since: began, answering: None };
        // Nothing is known of a node that was just asked.
        assert_eq!(next(known, None, at(4)).answering, None);
        assert_eq!(next(known, None, at(5)).answering, Some(false));
        let heard = next(known, Some(Answer::Stays), at(6));
        assert_eq!(heard, Known { since: at(6), answering: Some(true) });
        assert_eq!(next(heard, None, at(10)).answering, Some(true));
        assert_eq!(next(heard, None, at(11)).answering, Some(false));
        assert_eq!(next(heard, Some(Answer::Leaves), at(7)).answering, Some(false));
    }
}
