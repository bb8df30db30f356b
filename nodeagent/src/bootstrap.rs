//! Makes the cluster: once in its life, through one control plane. What is kept is the decision, on STATE; the controllers carry it out.

use controlplane::bootstrap::{self as cluster, Plan, Record, Step};
use machine::Root;
use machine::config::Role;
use machine::disk::Volume;
use machine::protocol::VolumeState;
use tokio::sync::Mutex;

use crate::clock::wall_seconds;
use crate::controllers::etcd_members;
use crate::identity;
use crate::node::Node;
use crate::power::hostname;
use crate::refusal::Refusal;
use crate::resources::bootstrap as record;
use crate::resources::etcd_repair::{self, EtcdRepair};
use crate::resources::services;

/// What a bootstrap does, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub plan: Vec<String>,
    /// Whether it was done before.
    pub already: bool,
}

#[derive(Debug)]
pub struct Bootstrap {
    node: Node,
    busy: Mutex<()>,
}

/// What decides whether the machine may make a cluster.
#[derive(Debug, Clone)]
struct Seen {
    role: Option<Role>,
    /// Why STATE cannot keep the record.
    state_problem: Option<String>,
    etcd: Option<VolumeState>,
    /// The machine's own config brings the authorities' keys.
    founder: bool,
    /// An etcd of the cluster that answers on another control plane.
    elsewhere: Option<String>,
    cluster: cluster::Seen,
}

impl Bootstrap {
    pub fn new(node: Node) -> Bootstrap {
        Bootstrap { node, busy: Mutex::new(()) }
    }

    /// Puts the records of earlier boots on the board.
    pub fn load(&self) -> anyhow::Result<()> {
        if let Some(record) = record::load(&self.node.root)? {
            self.node.store.put(record::Bootstrap::NAME, &record);
        }
        if let Some(repair) = etcd_repair::load(&self.node.root)? {
            self.node.store.put(EtcdRepair::NAME, &repair);
        }
        Ok(())
    }

    pub async fn bootstrap(&self, dry_run: bool, by: &str) -> Result<Outcome, Refusal> {
        let _busy = self.busy.lock().await;
        let seen = self.observe().await?;
        let steps = decide(&seen)?;
        let already = !steps.contains(&Step::RecordStart);
        if !dry_run && !already {
            let started = Record::started(&seen.cluster.cluster, &hostname(&self.node));
            record::save(&self.node, &record::Bootstrap { record: started, at: wall_seconds(), by: by.to_owned() })?;
            self.node.events.emit("cluster", "Bootstrapped", "the cluster is being made through this machine");
        }
        let plan = if already { Vec::new() } else { steps.iter().map(|step| words(*step).to_owned()).collect() };
        Ok(Outcome { plan, already })
    }

    async fn observe(&self) -> Result<Seen, Refusal> {
        let config = self.node.config().map(|applied| applied.config);
        let record = record::load(&self.node.root)?.map(|bootstrap| bootstrap.record);
        Ok(Seen {
            role: config.as_ref().map(|config| config.machine.role),
            state_problem: identity::state_problem(&self.node),
            etcd: services::volume_state(&self.node.store, Volume::Etcd),
            founder: etcd_members::is_founder(&self.node),
            elsewhere: if record.is_none() { etcd_members::elsewhere(&self.node).await } else { None },
            cluster: cluster::Seen {
                requested: true,
                record,
                etcd_data_empty: !holds_data(&self.node.root),
                cluster: config.map(|config| config.cluster.name.clone()).unwrap_or_default(),
            },
        })
    }
}

/// The steps to the cluster; without [`Step::RecordStart`] it was asked for before.
fn decide(seen: &Seen) -> Result<&'static [Step], Refusal> {
    if seen.role != Some(Role::ControlPlane) {
        let remedy = "bootstrap through a control plane; a worker joins the cluster by itself";
        return Err(Refusal::state("NOT_A_CONTROL_PLANE", "the machine is no control plane", remedy));
    }
    if let Some(problem) = &seen.state_problem {
        return Err(Refusal::state("STATE_CLOSED", problem, "see machinectl get volumes for what is wrong with the disk"));
    }
    if seen.etcd != Some(VolumeState::Open) {
        let remedy = "try again in a moment; see machinectl get volumes";
        return Err(Refusal::state("ETCD_CLOSED", "the ETCD volume is not open yet", remedy));
    }
    if seen.cluster.record.is_none() && seen.cluster.etcd_data_empty {
        refuse_another(seen)?;
    }
    match cluster::plan(&seen.cluster) {
        Plan::Act(steps) => Ok(steps),
        Plan::Waiting => Ok(&[]),
        Plan::Refused(refusal) => Err(Refusal::state("ETCD_DATA", refusal.to_string(), "nothing was changed")),
    }
}

/// A second cluster of the same name would have half of the machines.
fn refuse_another(seen: &Seen) -> Result<(), Refusal> {
    if let Some(server) = &seen.elsewhere {
        let problem = format!("the cluster is there: etcd answers at {server}");
        return Err(Refusal::state("CLUSTER_EXISTS", problem, "nothing is to be done: this machine joins it by itself"));
    }
    if !seen.founder {
        let problem = "the machine config brings no keys of the authorities: such a control plane joins the cluster of another one";
        return Err(Refusal::state("JOINS", problem, "bootstrap through the control plane whose config has the keys"));
    }
    Ok(())
}

fn words(step: Step) -> &'static str {
    match step {
        Step::RecordStart => "record on STATE that this machine makes the cluster",
        Step::StartEtcd => "start etcd as the only member of a new cluster",
        Step::AwaitVote => "wait until etcd has all that the other members have, and a vote",
        Step::StartApiServer => "start the API server",
        Step::AwaitApiServer => "wait until the API server is ready",
        Step::StartControllers => "start the controller manager and the scheduler",
        Step::ApplyManifests => "apply the cluster's manifests: RBAC, CoreDNS and those of the machine config",
        Step::RecordCompletion => "record on STATE that the cluster is made",
    }
}

/// etcd's data directory holds a `member` directory once it ran.
fn holds_data(root: &Root) -> bool {
    root.etcd_data().join("member").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Seen {
        let cluster = cluster::Seen { requested: true, record: None, etcd_data_empty: true, cluster: "demo".to_owned() };
        let etcd = Some(VolumeState::Open);
        Seen { role: Some(Role::ControlPlane), state_problem: None, etcd, founder: true, elsewhere: None, cluster }
    }

    fn reason(seen: Seen) -> &'static str {
        match decide(&seen) {
            Err(Refusal::State { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn cases() {
        assert_eq!(decide(&ready()).unwrap().first(), Some(&Step::RecordStart));
        assert_eq!(reason(Seen { role: Some(Role::Worker), ..ready() }), "NOT_A_CONTROL_PLANE");
        assert_eq!(reason(Seen { role: None, ..ready() }), "NOT_A_CONTROL_PLANE");
        assert_eq!(reason(Seen { state_problem: Some("broken".to_owned()), ..ready() }), "STATE_CLOSED");
        assert_eq!(reason(Seen { etcd: None, ..ready() }), "ETCD_CLOSED");
        assert_eq!(reason(Seen { founder: false, ..ready() }), "JOINS");
        assert_eq!(reason(Seen { elsewhere: Some("https://192.0.2.9:2379".to_owned()), ..ready() }), "CLUSTER_EXISTS");
        let mut foreign = ready();
        foreign.cluster.etcd_data_empty = false;
        assert_eq!(reason(foreign), "ETCD_DATA");
    }

    #[test]
    fn a_second_call_changes_nothing() {
        let mut seen = ready();
        seen.elsewhere = Some("https://192.0.2.9:2379".to_owned());
        seen.cluster.record = Some(Record::started("demo", "cp-1"));
        assert!(!decide(&seen).unwrap().contains(&Step::RecordStart));
    }
}
