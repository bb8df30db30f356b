//! `cluster remove`: a machine leaves its cluster, and is gone.

use std::fs;
use std::time::Duration;

use api::v1::{RemoveEtcdMemberRequest, ResetRequest};
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams};
use machine::config::Role;
use testbed::Machine;

use super::named::Named;
use super::state::{Folder, KUBECONFIG, Member, Record};
use super::waiting::Wait;
use super::{configs, growth, switch};
use crate::cli::World;
use crate::confirm::confirmed;
use crate::failure::{Failure, chain};
use crate::files;
use crate::kubernetes;
use crate::output::tell;
use crate::progress::Progress;

/// How long a machine may take to leave its cluster and power off.
const LEAVES: Duration = Duration::from_secs(180);
/// How long the API server may take to forget its Node.
const FORGETS: Duration = Duration::from_secs(30);

/// Have a machine leave its local cluster, and remove its disks
#[derive(Debug, Args)]
pub struct Remove {
    /// Name of the machine
    machine: String,
    #[command(flatten)]
    named: Named,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also where the machine cannot be asked to leave, or where etcd loses its quorum by it
    #[arg(long)]
    force: bool,
}

impl Remove {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let (folder, mut record) = self.named.find(world)?;
        let member = record.member(&self.machine)?.clone();
        if member.place.role == Role::ControlPlane && record.control_planes().count() == 1 {
            let remedy = format!("machinectl cluster destroy {}", record.name);
            return Err(Failure::new(&self.machine, "the only control plane of its cluster").remedy(remedy));
        }
        let question =
            format!("This has {} leave the cluster {} and removes {}. Go on?", self.machine, record.name, folder.of(&member).display());
        if !(self.yes || confirmed(&question)?) {
            return Err(Failure::new(&self.machine, "not removed"));
        }
        let progress = Progress::waiting(world.quiet);
        match leave(&folder, &member, self.force, &progress).await {
            Ok(()) => progress.done(&format!("{} has left", self.machine)),
            Err(failure) if self.force => {
                progress.done(&format!("{} is removed without its leaving: {failure}", self.machine));
                expel(&folder, &record, &member, &progress).await?;
            }
            Err(failure) => return Err(failure.remedy("start it first, or remove it all the same with --force")),
        }
        let forgotten = forget(&folder, &self.machine).await;
        end(&folder, &mut record, &member)?;
        drop(progress);
        forgotten.map_err(|failure| {
            failure.remedy(format!("its machine is gone; take its Node away with: kubectl delete node {}", self.machine))
        })?;
        if !world.quiet {
            tell(&format!("the machine {} is gone", self.machine));
        }
        Ok(())
    }
}

/// A reset of all that it has: a control plane's etcd leaves the others first. Waits until it is off.
async fn leave(folder: &Folder, member: &Member, force: bool, progress: &Progress) -> Result<(), Failure> {
    let machine = member.machine.clone().filter(|_| member.is_running()).map(Machine::attach);
    let machine = machine.ok_or_else(|| Failure::new(member.name(), "it is off, and so cannot leave its cluster"))?;
    let session = growth::cluster_session(&configs::context(folder)?, &growth::node(member)?).await?;
    let request = ResetRequest { dry_run: false, volumes: Vec::new(), confirm: member.name(), power_off: true, force };
    session.ask(session.machine().reset(request)).await?;
    let what = format!("{} to leave", member.name());
    Wait { machine: &machine, progress, what: &what, deadline: LEAVES }.until_off().await
}

/// Has etcd forget a control plane that could not leave: a dead member counts against the quorum.
async fn expel(folder: &Folder, record: &Record, member: &Member, progress: &Progress) -> Result<(), Failure> {
    if member.place.role != Role::ControlPlane {
        return Ok(());
    }
    let context = configs::context(folder)?;
    let mut last = Failure::new(member.name(), "no other control plane runs");
    for other in record.control_planes().filter(|other| other.place != member.place && other.is_running()) {
        let request = RemoveEtcdMemberRequest { member: member.name(), dry_run: false, force: true };
        let removed = async {
            let session = growth::cluster_session(&context, &growth::node(other)?).await?;
            session.ask(session.etcd().remove_member(request)).await
        };
        match removed.await {
            Ok(_) => {
                progress.done(&format!("etcd has forgotten {}", member.name()));
                return Ok(());
            }
            Err(failure) => last = failure,
        }
    }
    progress.done(&format!("etcd still has {0}, take it out with machinectl etcd remove {0}: {last}", member.name()));
    Ok(())
}

/// Takes its Node away. One that the API server does not know is no error.
async fn forget(folder: &Folder, name: &str) -> Result<(), Failure> {
    let client = kubernetes::connect(&files::read_text(&folder.path(KUBECONFIG))?).await?;
    let nodes: Api<Node> = Api::all(client);
    let deleted = tokio::time::timeout(FORGETS, nodes.delete(name, &DeleteParams::default())).await;
    match deleted.map_err(|_| Failure::deadline(name, "the API server did not forget its Node", FORGETS))? {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Failure::new(name, chain(&error))),
        Ok(_) => Ok(()),
    }
}

/// Ends the machine and everything that is kept of it.
fn end(folder: &Folder, record: &mut Record, member: &Member) -> Result<(), Failure> {
    if let Some(machine) = member.machine.clone() {
        Machine::attach(machine).quit();
    }
    record.machines.retain(|other| other.place != member.place);
    if record.switch.as_ref().is_some_and(testbed::ProcessId::is_alive) {
        switch::ensure(folder, record)?;
    }
    folder.save(record)?;
    configs::name_endpoints(folder, record)?;
    let directory = folder.of(member);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::of(directory.display(), &error)),
        _ => Ok(()),
    }
}
