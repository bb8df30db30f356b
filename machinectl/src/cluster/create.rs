//! `cluster create`: from an image to a Kubernetes cluster that answers.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use api::v1::{ApplyRequest, BootstrapRequest, GetKubeconfigRequest, GetVersionRequest};
use clap::Args;
use controlplane::client_config::{ClientConfig, Context};
use controlplane::generate::Options;
use controlplane::ports::API_SERVER_PORT;
use controlplane::secrets::Secrets;
use machine::config::{ByteSize, HostPort};
use serde_json::json;
use testbed::{Accelerator, Boot, Disk, DiskFormat, Firmware, Lifetime, Machine, MachineSpec, NAME_SERVER, host_boot_id};

use super::accelerators::Accelerators;
use super::fingerprint;
use super::state::{CLIENT_CONFIG, Folder, KUBECONFIG, Record};
use super::waiting::{Deadline, Wait};
use crate::cli::World;
use crate::connection;
use crate::failure::Failure;
use crate::files;
use crate::output::tell;
use crate::places::Places;
use crate::progress::Progress;
use crate::session::{Dialer, Session};
use crate::tls::{Fingerprint, Trust};
use crate::verbs::generate::{first_machine, names, write_client, write_secrets};
use crate::verbs::health::{last_report, summary};

/// How long all of it may take if the user does not say: emulation on a busy host is slow.
const WHOLE: Duration = Duration::from_secs(25 * 60);
/// Shares of it.
const MAINTENANCE: Duration = Duration::from_secs(5 * 60);
const CONFIGURED: Duration = Duration::from_secs(5 * 60);
const BOOTSTRAPPED: Duration = Duration::from_secs(10 * 60);
/// For how long one try reaches out for the machine; the wait around it tries again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Start a cluster of one control plane in QEMU, and wait until it is healthy
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the cluster
    #[arg(default_value = "corten")]
    name: String,
    /// Disk image to start from; it stays as it is
    #[arg(long, value_name = "FILE", default_value = "build/images/controlplane/disk.qcow2")]
    image: PathBuf,
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    #[arg(long, value_name = "SIZE", default_value = "3GiB")]
    memory: ByteSize,
    #[arg(long, value_name = "SIZE", default_value = "20GiB")]
    disk: ByteSize,
    /// Let no packet of the machine leave the host
    #[arg(long)]
    isolated: bool,
    /// kvm, tcg or icount [default: KVM where a guest really runs under it, else emulation]
    #[arg(long, value_name = "NAME", env = "CORTEN_ACCEL", hide_env_values = true)]
    accelerator: Option<String>,
    /// Change fields of the control plane's config: YAML, or @FILE
    #[arg(short, long, value_name = "PATCH")]
    patch: Vec<String>,
    /// Let ordinary pods run on the control plane
    #[arg(long)]
    allow_scheduling_on_control_planes: bool,
    /// End the machine by itself after this time
    #[arg(long, value_name = "DURATION")]
    limit: Option<machine::config::Duration>,
}

impl Create {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let folder = Folder::new(&world.places.clusters, &self.name)?;
        if folder.exists() {
            let problem = format!("the cluster {:?} exists already", self.name);
            return Err(Failure::new(folder.directory.display(), problem).remedy(format!("machinectl cluster destroy {}", self.name)));
        }
        let deadline = Deadline::after(world.connection.timeout.map_or(WHOLE, |timeout| timeout.0));
        let progress = Progress::waiting(world.quiet);
        let mut record = self.record()?;
        folder.save(&record)?;
        let machine = self.start(&world.places, &folder, &progress).inspect_err(|_| drop(folder.remove(record.clone())))?;
        record.machine = Some(machine.record().clone());
        folder.save(&record)?;
        let grown = self.grow(&folder, &machine, &progress, deadline).await;
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
            machine: None,
        })
    }

    fn start(&self, places: &Places, folder: &Folder, progress: &Progress) -> Result<Machine, Failure> {
        progress.wait_for("QEMU starts");
        let accelerators = Accelerators::find(self.accelerator.as_deref(), &places.cache, &host_boot_id())?;
        let format = if self.image.extension().is_some_and(|end| end == "qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw };
        let disk = Disk::Overlay { base: self.image.clone(), format, size_bytes: Some(self.disk.0) };
        let spec = MachineSpec::new(&self.name, Boot::Firmware(Firmware::find()?))
            .cpus(self.cpus)
            .memory_mib(self.memory.0 >> 20)
            .disk(disk)
            .isolated(self.isolated)
            .forward(api::PORT)?
            .forward(API_SERVER_PORT)?;
        let lifetime = self.limit.map_or(Lifetime::Detached, |limit| Lifetime::DetachedFor(limit.0));
        let machine = Machine::start(&spec, &folder.directory, &accelerators.candidates, lifetime)?;
        accelerators.learn(&machine);
        progress.done(&format!("QEMU runs ({})", machine.record().accelerator.name()));
        Ok(machine)
    }

    /// From a machine that boots to a cluster that answers.
    async fn grow(&self, folder: &Folder, machine: &Machine, progress: &Progress, deadline: Deadline) -> Result<(), Failure> {
        let wait = |what, share| Wait { machine, progress, what, deadline: deadline.left(share) };
        let node = local(machine, api::PORT)?;

        let ask = async || maintenance_session(machine, &node).await;
        let session = wait("the machine's API in maintenance", MAINTENANCE).until(ask).await?;
        progress.done("the machine is in maintenance");

        let (document, client) = self.configs(folder, machine, &node)?;
        // Once the config is there the machine asks for certificates: a repeated call in maintenance would be refused, so this is one call.
        let request = ApplyRequest { document: document.into_bytes(), dry_run: false, revert_after: None };
        session.ask(session.config().apply(request)).await?;
        progress.done("the config is applied");

        let context = client.context(None).map_err(|error| Failure::of(CLIENT_CONFIG, &error))?;
        let ask = async || {
            let session = cluster_session(context, &node).await?;
            session.ask(session.machine().get_version(GetVersionRequest {})).await?;
            session.ask(session.cluster().bootstrap(BootstrapRequest { dry_run: false })).await
        };
        wait("the machine to take its role, to bootstrap", CONFIGURED).until(ask).await?;
        progress.done("the cluster is bootstrapped");

        let patience = deadline.left(BOOTSTRAPPED);
        let ask = async || {
            let session = cluster_session(context, &node).await?;
            let report = last_report(&session, Some(patience), progress).await?;
            if report.healthy { Ok(()) } else { Err(Failure::new(&session.node, summary(&report))) }
        };
        wait("a healthy cluster", BOOTSTRAPPED).until(ask).await?;
        progress.done("the cluster is healthy");

        let ask = async || {
            let session = cluster_session(context, &node).await?;
            session.ask(session.cluster().get_kubeconfig(GetKubeconfigRequest { valid_for: None })).await
        };
        let response = wait("a kubeconfig", CONFIGURED).until(ask).await?;
        files::write(&folder.path(KUBECONFIG), &response.kubeconfig, files::SECRET)?;
        progress.done(&format!("kubeconfig: {}", folder.path(KUBECONFIG).display()));
        Ok(())
    }

    /// The cluster's configs, written to its folder.
    fn configs(&self, folder: &Folder, machine: &Machine, node: &HostPort) -> Result<(String, ClientConfig), Failure> {
        let now = SystemTime::now();
        let secrets = Secrets::generate(now).map_err(|error| Failure::of("secrets", &error))?;
        let options = Options {
            machine_endpoints: vec![node.to_string()],
            allow_scheduling_on_control_planes: self.allow_scheduling_on_control_planes,
            ..Options::new(now)
        };
        let endpoint = format!("https://{}", local(machine, API_SERVER_PORT)?);
        let (document, client) = first_machine(&self.name, &endpoint, &secrets, &options, &self.patches(machine))?;
        write_secrets(&folder.path(names::SECRETS), &secrets)?;
        files::write(&folder.path(names::CONTROL_PLANE), &document, files::SECRET)?;
        write_client(&folder.path(CLIENT_CONFIG), &client)?;
        Ok((document, client))
    }

    /// Ours, then the user's.
    fn patches(&self, machine: &Machine) -> Vec<String> {
        // CoreDNS does not start without one.
        let network = json!({ "nameservers": [NAME_SERVER] });
        // The forwarded ports are the host's: inside, the machine finds itself by its own addresses.
        let mut ours = json!({ "cluster": { "controlPlanes": null }, "machine": { "hostname": self.name, "network": network } });
        if machine.record().accelerator != Accelerator::Kvm {
            // Emulated CPUs stall for longer than etcd's defaults (100 ms, 1 s) bear.
            ours["cluster"]["etcd"] = json!({ "extraArgs": { "heartbeat-interval": "500", "election-timeout": "5000" } });
        }
        [ours.to_string()].into_iter().chain(self.patch.iter().cloned()).collect()
    }
}

/// The host's end of a forwarded port.
fn local(machine: &Machine, guest: u16) -> Result<HostPort, Failure> {
    let port = machine.port(guest).ok_or_else(|| Failure::new(&machine.record().name, format!("port {guest} is not forwarded")))?;
    connection::node(&format!("127.0.0.1:{port}")).map_err(|error| Failure::new("127.0.0.1", error))
}

/// Connects to the machine that the console speaks of, and sees that it answers.
async fn maintenance_session(machine: &Machine, node: &HostPort) -> Result<Session, Failure> {
    let console = machine.console();
    let none = || Failure::new(console.path().display(), "no fingerprint on the console yet");
    let shown: Fingerprint = fingerprint::shown(&console.text()?).ok_or_else(none)?;
    let dialer = Dialer { trust: Trust::Maintenance(Some(shown)), server_name: None, patience: PATIENCE };
    let session = dialer.connect(node).await?;
    session.ask(session.machine().get_version(GetVersionRequest {})).await?;
    Ok(session)
}

async fn cluster_session(context: &Context, node: &HostPort) -> Result<Session, Failure> {
    let dialer = Dialer { trust: Trust::Cluster(Box::new(context.clone())), server_name: None, patience: PATIENCE };
    dialer.connect(node).await
}
