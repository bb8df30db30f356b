//! What is asked of an image, and what it is not blamed for: from what was seen of the machine to one observation a check.

use machine::service::{ServiceStatus, Slice};

use super::state::{Observation, Verdict};
use crate::health;
use crate::resources::machine::Check;

/// Checks of health.rs that nothing of this machine can make pass while its cluster is out of reach: etcd without the other members has no
/// quorum, the API server no etcd, and what the agent applies no API server.
const OF_THE_CLUSTER: [&str; 5] = ["controllers", "etcd", "apiserver", "cluster", "node"];
/// Besides the control plane's services: it cannot come up before it read its Node.
const KUBE_PROXY: &str = "kube-proxy";
/// The agent's own service: its log tells of everything that no other service's does.
const AGENT: &str = "nodeagent";
const RUNTIME: &str = "containerd";

/// One round.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Why STATE cannot be used; `None` when it is open.
    pub state_problem: Option<String>,
    /// Whether the machine API takes connections.
    pub api: Result<(), String>,
    pub standing: Standing,
    /// The checks of health.rs.
    pub health: Vec<(&'static str, Check)>,
    /// Whether a pod can start in the cluster's network; `None` where that is not asked.
    pub pods: Option<Result<(), String>>,
    /// Whether the peers of the overlay that answered before the upgrade still do.
    pub overlay: Result<(), String>,
    pub services: Vec<Service>,
    pub users: Vec<UserCheck>,
}

/// What init tells of a service.
#[derive(Debug, Clone)]
pub struct Service {
    pub status: ServiceStatus,
    /// Its branch of the cgroup tree, where that is known.
    pub slice: Option<Slice>,
    /// Whether it ended by itself and was started again since the round before: one that is up at each look and ends in between is not up.
    pub restarted: bool,
}

impl Service {
    fn is_up(&self) -> bool {
        health::settled(&self.status) && !self.restarted
    }

    fn words(&self) -> String {
        if self.restarted && health::settled(&self.status) {
            let exit = self.status.last_exit.map(|exit| format!(" with {exit}")).unwrap_or_default();
            return format!("{} ended{exit} and was started again", self.status.id);
        }
        health::words(&self.status)
    }

    fn needs_the_cluster(&self) -> bool {
        self.slice == Some(Slice::Controlplane) || self.status.id.as_str() == KUBE_PROXY
    }
}

/// What a check of the machine config says.
#[derive(Debug, Clone)]
pub struct UserCheck {
    pub title: String,
    pub result: Result<(), String>,
    /// Whether the cluster is asked.
    pub of_the_cluster: bool,
}

/// What the machine is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No config was ever applied.
    Maintenance,
    /// There is a config, and this image cannot use it.
    Recovery,
    /// Configured, and of no cluster yet: not bootstrapped, or without a certificate of the cluster's.
    Alone,
    /// A node of a cluster.
    Member(Before),
}

/// How it was when the upgrade began: what was broken then is not held against the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Whether an API server answered.
    pub reachable: bool,
    /// Whether a pod could start.
    pub pods_started: bool,
}

/// Each check's verdict, in the order in which a reader should look at them.
pub fn judge(seen: &Seen) -> Vec<Observation> {
    let mut all =
        vec![observe("state", Some(AGENT), seen.state_problem.clone().map_or(Ok(()), Err)), observe("api", Some(AGENT), seen.api.clone())];
    match seen.standing {
        Standing::Maintenance => return all,
        Standing::Recovery => {
            let unusable = "no generation of the machine config on STATE can be used by this image";
            all.push(observe("config", Some(AGENT), Err(unusable.to_owned())));
            return all;
        }
        Standing::Alone => {}
        Standing::Member(before) => all.extend(of_a_member(seen, before)),
    }
    let out_of_reach = matches!(seen.standing, Standing::Member(Before { reachable: false, .. }));
    let judged = |user: &UserCheck| excuse(observe(&user.title, None, user.result.clone()), user.of_the_cluster && out_of_reach);
    all.extend(seen.users.iter().map(judged));
    all
}

fn of_a_member(seen: &Seen, before: Before) -> Vec<Observation> {
    let reachable_before = before.reachable;
    let judged = |(name, check): &(&'static str, Check)| {
        if *name == "services" {
            return services(seen, reachable_before);
        }
        let result = if check.passed { Ok(()) } else { Err(check.message.clone()) };
        excuse(observe(name, Some(service_of(name)), result), !reachable_before && OF_THE_CLUSTER.contains(name))
    };
    let pods = seen.pods.clone().map(|pods| excuse(observe("pods", Some(RUNTIME), pods), !before.pods_started));
    let overlay = excuse(observe("overlay", Some(AGENT), seen.overlay.clone()), !reachable_before);
    seen.health.iter().map(judged).chain(pods).chain([overlay]).collect()
}

/// The services that are not up, without those that need a cluster that is out of reach.
fn services(seen: &Seen, reachable_before: bool) -> Observation {
    let down = seen.services.iter().filter(|service| !service.is_up());
    let (excusable, own): (Vec<_>, Vec<_>) = down.partition(|service| !reachable_before && service.needs_the_cluster());
    let (blamed, excused) = if own.is_empty() { (excusable, true) } else { (own, false) };
    let result = match blamed.first() {
        _ if seen.services.is_empty() => Err("init has told of no service yet".to_owned()),
        None => Ok(()),
        Some(_) => Err(blamed.iter().map(|service| service.words()).collect::<Vec<_>>().join("; ")),
    };
    let service = blamed.first().map_or(AGENT, |service| service.status.id.as_str());
    excuse(observe("services", Some(service), result), excused && !seen.services.is_empty())
}

/// Whose log tells why a check of health.rs fails.
fn service_of(check: &str) -> &'static str {
    match check {
        "etcd" => "etcd",
        "apiserver" => "kube-apiserver",
        "kubelet" | "node" => "kubelet",
        _ => AGENT,
    }
}

fn observe(check: &str, service: Option<&str>, result: Result<(), String>) -> Observation {
    let verdict = result.map_or_else(Verdict::Failing, |()| Verdict::Passed);
    Observation { check: check.to_owned(), verdict, service: service.map(str::to_owned) }
}

fn excuse(observation: Observation, excused: bool) -> Observation {
    match observation.verdict {
        Verdict::Failing(message) if excused => Observation { verdict: Verdict::Excused(message), ..observation },
        _ => observation,
    }
}

#[cfg(test)]
mod tests;
