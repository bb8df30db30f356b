//! `cluster create`: from an image to a Kubernetes cluster that answers.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use machine::config::{ByteSize, Role};
use testbed::{Machine, free_port};

use super::configs;
use super::growth::{Growth, answers};
use super::layout::{IpFamily, MOST_WORKERS, Place, places};
use super::power;
use super::state::{CLIENT_CONFIG, Folder, KUBECONFIG, Member, Record};
use super::waiting::Deadline;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::tell;
use crate::progress::Progress;
use crate::verbs::generate::Patches;

/// How long the first machine may take if the user does not say, and what each further one adds: emulation on a busy host is slow.
const FIRST: Duration = Duration::from_secs(25 * 60);
const FURTHER: Duration = Duration::from_secs(5 * 60);

/// Start a cluster in QEMU, and wait until all of its machines are healthy
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the cluster
    #[arg(default_value = "corten")]
    name: String,
    /// How many control planes: 1, 3 or 5
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = odd)]
    control_planes: u8,
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=i64::from(MOST_WORKERS)))]
    workers: u8,
    /// Disk image that every machine starts from; it stays as it is
    #[arg(long, value_name = "FILE", default_value = "build/images/controlplane/disk.qcow2")]
    image: PathBuf,
    /// Of each machine
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Of each machine
    #[arg(long, value_name = "SIZE", default_value = "3GiB")]
    memory: ByteSize,
    /// Of each machine
    #[arg(long, value_name = "SIZE", default_value = "20GiB")]
    disk: ByteSize,
    /// Let no packet of the machines leave the host
    #[arg(long)]
    isolated: bool,
    /// Of the machines among each other, of pods and of Services
    #[arg(long, value_name = "FAMILY", default_value = "ipv4")]
    ip_family: IpFamily,
    /// kvm, tcg or icount [default: KVM where a guest really runs under it, else emulation]
    #[arg(long, value_name = "NAME", env = "CORTEN_ACCEL", hide_env_values = true)]
    accelerator: Option<String>,
    #[command(flatten)]
    patches: Patches,
    /// Let ordinary pods run on control planes
    #[arg(long)]
    allow_scheduling_on_control_planes: bool,
    /// End each machine by itself after this time
    #[arg(long, value_name = "DURATION")]
    limit: Option<machine::config::Duration>,
}

/// An even number of control planes bears no more losses than one less.
fn odd(text: &str) -> Result<u8, String> {
    text.parse().ok().filter(|number| matches!(number, 1 | 3 | 5)).ok_or_else(|| "expected 1, 3 or 5".to_owned())
}

impl Create {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let folder = Folder::new(&world.places.clusters, &self.name)?;
        if folder.exists() {
            let problem = format!("the cluster {:?} exists already", self.name);
            return Err(Failure::new(folder.directory.display(), problem).remedy(format!("machinectl cluster destroy {}", self.name)));
        }
        let further = u32::from(self.control_planes) + u32::from(self.workers) - 1;
        let deadline = Deadline::after(world.connection.timeout.map_or(FIRST + FURTHER * further, |timeout| timeout.0));
        let progress = Progress::waiting(world.quiet);
        let mut record = self.record()?;
        folder.save(&record)?;
        let first = Place::FIRST.name();
        let machine = start(world, &folder, &mut record, &first, &progress).inspect_err(|_| drop(folder.remove(record.clone())))?;
        let grown = self.grow(world, &folder, &mut record, &machine, &progress, deadline).await;
        grown.map_err(|failure| {
            let remedy = format!(
                "look around with --config {}; end it with: machinectl cluster destroy {}",
                folder.path(CLIENT_CONFIG).display(),
                self.name
            );
            failure.remedy(remedy)
        })?;
        drop(progress);
        if !world.quiet {
            tell(&format!("export KUBECONFIG={}", folder.path(KUBECONFIG).display()));
            tell(&format!("export CORTENCONFIG={}", folder.path(CLIENT_CONFIG).display()));
        }
        Ok(())
    }

    fn record(&self) -> Result<Record, Failure> {
        let image = self.image.canonicalize();
        let image = image
            .map_err(|error| Failure::of(self.image.display(), &error).remedy("build it with `make image`, or name one with --image"))?;
        Ok(Record {
            name: self.name.clone(),
            image,
            cpus: self.cpus,
            memory_bytes: self.memory.0,
            disk_bytes: self.disk.0,
            isolated: self.isolated,
            ip_family: self.ip_family,
            accelerator: self.accelerator.clone(),
            limit: self.limit,
            kubernetes_port: Some(free_port()?),
            switch: None,
            machines: places(self.control_planes, self.workers).into_iter().map(Member::new).collect(),
        })
    }

    /// The first control plane until it serves, then the others: on a busy host, machines that boot beside it would starve it.
    async fn grow(
        &self,
        world: &World,
        folder: &Folder,
        record: &mut Record,
        machine: &Machine,
        progress: &Progress,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        configs::make(folder, record, self.allow_scheduling_on_control_planes, &self.patches)?;
        let first = record.member(&Place::FIRST.name())?.clone();
        Growth { folder, record, progress, deadline, member: &first, machine }.found().await?;
        let further: Vec<String> = record.machines.iter().map(Member::name).filter(|name| *name != first.name()).collect();
        join(world, folder, record, &further, progress, deadline).await
    }
}

/// Starts machines that the record names, and brings them into the cluster: control planes one after the other, since etcd takes one learner at a
/// time and each costs the others processors, then the workers side by side.
pub async fn join(
    world: &World,
    folder: &Folder,
    record: &mut Record,
    names: &[String],
    progress: &Progress,
    deadline: Deadline,
) -> Result<(), Failure> {
    let is_control_plane = |name: &String| record.member(name).is_ok_and(|member| member.place.role == Role::ControlPlane);
    let (control_planes, workers): (Vec<String>, Vec<String>) = names.iter().cloned().partition(is_control_plane);
    for name in control_planes {
        join_together(world, folder, record, &[name], progress, deadline).await?;
    }
    join_together(world, folder, record, &workers, progress, deadline).await
}

async fn join_together(
    world: &World,
    folder: &Folder,
    record: &mut Record,
    names: &[String],
    progress: &Progress,
    deadline: Deadline,
) -> Result<(), Failure> {
    let mut machines = Vec::new();
    for name in names {
        machines.push(start(world, folder, record, name, progress)?);
    }
    configs::name_endpoints(folder, record)?;
    let record = &*record;
    let one = async |name: &String, machine: &Machine| {
        let member = record.member(name)?;
        Growth { folder, record, progress, deadline, member, machine }.join().await
    };
    let joined = join_all(names.iter().zip(&machines).map(|(name, machine)| one(name, machine))).await;
    answers(names, joined).outcome()
}

/// Turns a machine on.
pub fn start(world: &World, folder: &Folder, record: &mut Record, name: &str, progress: &Progress) -> Result<Machine, Failure> {
    progress.wait_for(format!("QEMU starts {name}"));
    let machine = power::on(&world.places, folder, record, name)?;
    progress.done(&format!("{name} runs ({})", machine.record().accelerator.name()));
    Ok(machine)
}
