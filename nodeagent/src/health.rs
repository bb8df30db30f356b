//! The machine's health: a table of checks over the board. The stage `running` begins when all of them pass for the first time.

use machine::config::Role;
use machine::disk::Volume;
use machine::protocol::{VolumeState, VolumeStatus};
use machine::service::{ServiceState, ServiceStatus};
use machine::stage::Stage;

use crate::controller::{ControllerState, ControllerStatus};
use crate::node::Node;
use crate::resources::cluster::{ApiServer, NodeStatus};
use crate::resources::etcd::EtcdMember;
use crate::resources::machine::{Check, MachineStatus};
use crate::resources::{bootstrap, services};
use crate::stage::StageEvent;

/// A check by its name.
type Row = (&'static str, fn(&Node, Role) -> Result<(), String>);

/// All checks; those of control planes pass on workers as soon as they are asked.
const CHECKS: [Row; 8] = [
    ("volumes", volumes),
    ("controllers", controllers),
    ("services", all_services),
    ("etcd", etcd),
    ("apiserver", apiserver),
    ("cluster", cluster),
    ("kubelet", kubelet),
    ("node", kubernetes_node),
];

/// Names of the checks, in the order of the table.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.into_iter().map(|(name, _)| name)
}

/// Each check with its result, in the order of the table.
pub fn checks(node: &Node) -> Vec<(&'static str, Check)> {
    let Some(applied) = node.config() else {
        return vec![("config", Check { passed: false, message: "the machine has no config".to_owned() })];
    };
    let run = |(name, check): Row| {
        let result = check(node, applied.config.machine.role);
        (name, Check { passed: result.is_ok(), message: result.err().unwrap_or_default() })
    };
    CHECKS.into_iter().map(run).collect()
}

/// Keeps `health` and `machine` on the board, the stage in step with them, and the console told, for as long as the agent lives.
pub async fn watch(node: Node) {
    let mut board = node.store.revision();
    let (mut config, mut stages) = (node.watch_config(), node.watch_stage());
    let mut told = Vec::new();
    loop {
        board.mark_unchanged();
        let checks = checks(&node);
        let failing: Vec<&str> = checks.iter().filter(|(_, check)| !check.passed).map(|(name, _)| *name).collect();
        let waits_for: Vec<String> =
            checks.iter().filter(|(_, check)| !check.passed).map(|(name, check)| format!("{name}: {}", check.message)).collect();
        if failing.is_empty() {
            node.happened(StageEvent::Healthy);
        }
        let (stage, generation) = (node.stage(), node.config().map_or(0, |applied| applied.generation));
        // Messages change more often than anybody reads at a console.
        if stage == Stage::Booting && told != failing {
            node.console.print(&format!("booting, waits for {}", waits_for.join("; ")));
            told = failing;
        }
        node.store.replace(checks.into_iter().map(|(name, check)| (name.to_owned(), check)));
        node.store.put(MachineStatus::NAME, &MachineStatus { stage, generation, waits_for });
        tokio::select! {
            _ = board.changed() => {}
            _ = config.changed() => {}
            _ = stages.changed() => {}
        }
    }
}

fn volumes(node: &Node, role: Role) -> Result<(), String> {
    let wanted = match role {
        Role::ControlPlane => &[Volume::State, Volume::Etcd, Volume::Ephemeral][..],
        Role::Worker => &[Volume::State, Volume::Ephemeral],
    };
    let problem = |volume: &Volume| match node.store.get::<VolumeStatus>(&services::volume_name(*volume)).map(|status| status.state) {
        Some(VolumeState::Open) => None,
        Some(VolumeState::Broken { reason }) => Some(format!("{} is broken: {reason}", volume.partition().label())),
        Some(VolumeState::Missing) => Some(format!("{} is not on the disk", volume.partition().label())),
        Some(VolumeState::Closed | VolumeState::Opening) | None => Some(format!("{} is not open yet", volume.partition().label())),
    };
    all(wanted.iter().filter_map(problem))
}

/// What controllers wait for is seen in the checks of what they make; what went wrong is seen here.
fn controllers(node: &Node, _: Role) -> Result<(), String> {
    let failed = node.store.all::<ControllerStatus>().into_iter().filter(|(_, status)| status.state == ControllerState::Failed);
    all(failed.map(|(name, status)| format!("{name}: {}", status.error)))
}

fn all_services(node: &Node, _: Role) -> Result<(), String> {
    let services = node.store.all::<ServiceStatus>();
    if services.is_empty() {
        return Err("init has told of no service yet".to_owned());
    }
    all(services.into_values().filter(|status| !settled(status)).map(|status| words(&status)))
}

/// Whether a service is where it should be.
pub fn settled(status: &ServiceStatus) -> bool {
    matches!(status.state, ServiceState::Ready | ServiceState::Ended)
}

/// The controller that brings a control plane into etcd.
const MEMBERS: &str = "etcdmembers";

fn etcd(node: &Node, role: Role) -> Result<(), String> {
    match role {
        Role::Worker => Ok(()),
        Role::ControlPlane if !bootstrap::is_done(&node.store) => {
            let hint = "bootstrap the cluster once, through the first control plane: machinectl bootstrap";
            Err(waits_for(node, MEMBERS).map(|waits| format!("{waits}; {hint}")).unwrap_or_else(|| hint.to_owned()))
        }
        Role::ControlPlane if !bootstrap::may_serve(&node.store) => Err(waits_for(node, MEMBERS).unwrap_or_else(|| "it joins".to_owned())),
        Role::ControlPlane if EtcdMember::own_removed(&node.store) => Err(waits_for(node, MEMBERS).unwrap_or_default()),
        Role::ControlPlane => ready(node, "etcd"),
    }
}

fn apiserver(node: &Node, role: Role) -> Result<(), String> {
    if role == Role::Worker || ApiServer::local_ready(&node.store) {
        return Ok(());
    }
    let local = node.store.all::<ApiServer>().into_values().find(|server| server.local);
    Err(local.map(|server| server.error).filter(|error| !error.is_empty()).unwrap_or_else(|| "it does not answer /readyz yet".to_owned()))
}

fn cluster(node: &Node, _: Role) -> Result<(), String> {
    if ApiServer::any_ready(&node.store) { Ok(()) } else { Err("no API server of the cluster answers".to_owned()) }
}

fn kubelet(node: &Node, _: Role) -> Result<(), String> {
    ready(node, "kubelet")
}

fn kubernetes_node(node: &Node, _: Role) -> Result<(), String> {
    match node.store.all::<NodeStatus>().into_values().next() {
        Some(status) if status.ready => Ok(()),
        Some(status) => Err(format!("it is not Ready: {}", status.message)),
        None => Err("the cluster does not know it yet".to_owned()),
    }
}

fn ready(node: &Node, service: &str) -> Result<(), String> {
    match node.store.get::<ServiceStatus>(service) {
        Some(status) if status.state == ServiceState::Ready => Ok(()),
        Some(status) => Err(words(&status)),
        None => Err(waits_for(node, service).unwrap_or_else(|| "its service does not run yet".to_owned())),
    }
}

/// What the service's controller says it waits for.
fn waits_for(node: &Node, controller: &str) -> Option<String> {
    let waits_for = node.store.get::<ControllerStatus>(controller)?.waits_for;
    (!waits_for.is_empty()).then(|| format!("waits for {}", waits_for.join(", ")))
}

/// What a service is doing, in words.
pub fn words(status: &ServiceStatus) -> String {
    let name = &status.id;
    match &status.state {
        ServiceState::Stopped => format!("{name} is stopped"),
        ServiceState::Waiting { after } => {
            let after: Vec<&str> = after.iter().map(|id| id.as_str()).collect();
            format!("{name} waits for {}", after.join(", "))
        }
        ServiceState::Starting => format!("{name} is starting"),
        ServiceState::Ready => format!("{name} is ready"),
        ServiceState::Stopping => format!("{name} is stopping"),
        ServiceState::Backoff { .. } | ServiceState::Ended => {
            format!("{name} ended{}", status.last_exit.map(|exit| format!(" with {exit}")).unwrap_or_default())
        }
    }
}

fn all(problems: impl Iterator<Item = String>) -> Result<(), String> {
    let problems: Vec<String> = problems.collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests;
