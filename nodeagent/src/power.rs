//! Reboot, shutdown and reset: what will happen, in words, and the way down itself.

pub mod parting;

use std::time::Duration;

use machine::disk::Volume;
use machine::protocol::PowerAction;
use machine::service::{ServiceId, ServiceState, ServiceStatus};

use crate::containerd;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::bootstrap;
use crate::resources::network::Hostname;
use crate::stage::StageEvent;
use parting::Parting;

/// How long pods may take to end by themselves.
const PODS: Duration = Duration::from_secs(30);
/// How long the kubelet may take to end.
const KUBELET_STOP: Duration = Duration::from_secs(10);
/// Would start stopped pods again.
const KUBELET: &str = "kubelet";

/// A way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descent {
    pub action: PowerAction,
    pub wipe: Vec<Volume>,
    /// Who asked, as logs show it.
    pub by: String,
    /// Whatever becomes of etcd's quorum.
    pub force: bool,
}

#[derive(Debug, Clone)]
pub struct Power {
    node: Node,
}

impl Power {
    pub fn new(node: Node) -> Power {
        Power { node }
    }

    /// Begins the way down and answers at once with what happens; a dry run answers alone. Refused where etcd would not go on without this
    /// machine, unless that is meant.
    pub async fn descend(&self, descent: Descent, dry_run: bool) -> Result<Vec<String>, Refusal> {
        let parting = Parting::observe(&self.node, &descent.wipe).await;
        let told = if dry_run { parting.words() } else { parting.accepted(descent.force)? };
        let plan = [told].into_iter().filter(|words| !words.is_empty()).chain(plan(&descent)).collect();
        if !dry_run {
            let power = self.clone();
            tokio::spawn(async move { power.carry_out(descent, parting, true).await });
        }
        Ok(plan)
    }

    /// Begins the way down at once: etcd's quorum was seen to before. Without a drain pods are not waited for.
    pub fn begin(&self, descent: Descent, drain: bool) {
        let power = self.clone();
        tokio::spawn(async move { power.carry_out(descent, Parting::NoMember, drain).await });
    }

    async fn carry_out(self, descent: Descent, parting: Parting, drain: bool) {
        let before = self.node.stage();
        self.node.happened(event(&descent));
        if let Err(error) = parting.leave(&self.node).await {
            tracing::warn!("{error:#}");
            if !descent.force {
                self.node.events.emit("machine", "PowerRefused", format!("{error:#}"));
                self.node.happened(StageEvent::PowerRefused { before });
                return;
            }
        }
        if drain {
            self.drain().await;
        }
        if descent.wipe.contains(&Volume::Etcd)
            && let Err(error) = bootstrap::forget(&self.node.root)
        {
            tracing::warn!("{error:#}");
        }
        let reason =
            format!("{} asked by {}", descent_word(&descent), if descent.by.is_empty() { "somebody in maintenance" } else { &descent.by });
        if let Err(error) = self.node.init.power(descent.action, descent.wipe, reason).await {
            self.node.events.emit("machine", "PowerRefused", format!("{error:#}"));
            self.node.happened(StageEvent::PowerRefused { before });
        }
    }

    /// Reboots without being asked: the running image is given up, and pods are waited for no longer than [`PODS`].
    pub async fn leave(&self, reason: String) {
        let before = self.node.stage();
        self.node.happened(StageEvent::RebootAsked);
        if tokio::time::timeout(PODS, self.drain()).await.is_err() {
            tracing::warn!("pods still run after {} seconds", PODS.as_secs());
        }
        if let Err(error) = self.node.init.power(PowerAction::Reboot, Vec::new(), reason).await {
            self.node.events.emit("machine", "PowerRefused", format!("{error:#}"));
            self.node.happened(StageEvent::PowerRefused { before });
        }
    }

    /// Ends the pods in peace, within a deadline. Without it init would end them by SIGKILL, with their shims.
    pub async fn drain(&self) {
        if !self.node.store.all::<ServiceStatus>().contains_key(KUBELET) {
            return;
        }
        if let Ok(kubelet) = ServiceId::new(KUBELET)
            && let Err(error) = self.node.init.stop_service(kubelet).await
        {
            tracing::warn!("stopping the kubelet: {error:#}");
        }
        // init answers when the stop is under way; a kubelet that still runs would start again what is ended here.
        if tokio::time::timeout(KUBELET_STOP, self.stopped(KUBELET)).await.is_err() {
            tracing::warn!("the kubelet still runs after {} seconds", KUBELET_STOP.as_secs());
        }
        match containerd::stop_containers(&self.node.root.containerd_socket(), PODS).await {
            Ok(count) => tracing::info!("{count} containers ended"),
            Err(error) => tracing::warn!("ending containers: {error:#}"),
        }
    }

    async fn stopped(&self, service: &str) {
        let mut board = self.node.store.revision();
        loop {
            board.mark_unchanged();
            let state = self.node.store.get::<ServiceStatus>(service).map(|status| status.state);
            if matches!(state, None | Some(ServiceState::Stopped | ServiceState::Ended)) || board.changed().await.is_err() {
                return;
            }
        }
    }

    /// What a reset asks for, checked: which volumes, and the machine's name as a confirmation unless it is a dry run.
    pub fn reset(&self, volumes: &[String], confirm: &str, dry_run: bool) -> Result<Vec<Volume>, Refusal> {
        let volumes = volumes_named(volumes)?;
        let hostname = hostname(&self.node);
        if !dry_run && confirm != hostname {
            let text = format!("{confirm:?}; expected the machine's hostname, {hostname:?}, as a confirmation");
            return Err(Refusal::field("confirm", text));
        }
        Ok(volumes)
    }
}

/// The machine's name: the board's, else the kernel's.
pub fn hostname(node: &Node) -> String {
    let told = node.store.get::<Hostname>(Hostname::NAME).map(|name| name.hostname);
    told.filter(|name| !name.is_empty()).unwrap_or_else(|| nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned())
}

/// Volumes by the labels that users give; none given are all.
fn volumes_named(labels: &[String]) -> Result<Vec<Volume>, Refusal> {
    if labels.is_empty() {
        return Ok(Volume::ALL.to_vec());
    }
    let known: Vec<&str> = Volume::ALL.iter().map(|volume| volume.partition().label()).collect();
    let find = |label: &String| {
        let unknown = || Refusal::field("volumes", format!("{label:?}; expected one of {}", known.join(", ")));
        Volume::ALL.into_iter().find(|volume| volume.partition().label().eq_ignore_ascii_case(label)).ok_or_else(unknown)
    };
    let mut volumes = labels.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    volumes.sort();
    volumes.dedup();
    Ok(volumes)
}

fn event(descent: &Descent) -> StageEvent {
    match (descent.wipe.is_empty(), descent.action) {
        (false, _) => StageEvent::ResetAsked,
        (true, PowerAction::Reboot) => StageEvent::RebootAsked,
        (true, PowerAction::PowerOff) => StageEvent::ShutdownAsked,
    }
}

fn descent_word(descent: &Descent) -> &'static str {
    match event(descent) {
        StageEvent::ResetAsked => "reset",
        StageEvent::RebootAsked => "reboot",
        _ => "shutdown",
    }
}

fn plan(descent: &Descent) -> Vec<String> {
    let mut plan = vec![
        format!("stop the kubelet, and ask all pods to end within {} seconds", PODS.as_secs()),
        "stop all services in order".to_owned(),
        "unmount all volumes".to_owned(),
    ];
    let wiped = |volume: &Volume| match volume {
        Volume::State => "wipe STATE: config, identity, keys and certificates are gone; the machine comes back in maintenance",
        Volume::Etcd => "wipe ETCD: this machine's copy of the cluster's data is gone",
        Volume::Ephemeral => "wipe EPHEMERAL: images, containers, pods' local data and logs are gone",
    };
    plan.extend(descent.wipe.iter().map(wiped).map(str::to_owned));
    plan.push(match descent.action {
        PowerAction::Reboot => "reboot".to_owned(),
        PowerAction::PowerOff => "power off".to_owned(),
    });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_by_label() {
        assert_eq!(volumes_named(&[]).unwrap(), Volume::ALL);
        let named = |labels: &[&str]| volumes_named(&labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>());
        assert_eq!(named(&["ephemeral", "STATE", "STATE"]).unwrap(), [Volume::State, Volume::Ephemeral]);
        assert!(named(&["BOOT"]).unwrap_err().to_string().contains("STATE, ETCD, EPHEMERAL"));
    }

    #[test]
    fn a_reset_says_what_is_lost() {
        let descent = Descent { action: PowerAction::Reboot, wipe: vec![Volume::Etcd], by: String::new(), force: false };
        let plan = plan(&descent);
        assert!(plan.iter().any(|step| step.starts_with("wipe ETCD")) && !plan.iter().any(|step| step.contains("wipe STATE")), "{plan:?}");
        assert_eq!(event(&descent), StageEvent::ResetAsked);
    }
}
