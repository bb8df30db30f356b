//! `gen`: configs, client certificates and secrets, all made offline.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Args, Subcommand, ValueEnum};
use controlplane::client_config::ClientConfig;
use controlplane::generate::{GeneratedConfigs, Options, generate, issue_client};
use controlplane::pki::MachineRole;
use controlplane::secrets::Secrets;
use machine::config::{CERTIFICATE_LIFETIME, Document, Duration, yaml};
use serde_json::Value;

use crate::cli::World;
use crate::failure::Failure;
use crate::output::{tell, write};
use crate::{files, patch};

#[derive(Debug, Subcommand)]
pub enum Gen {
    Config(Config),
    Client(Client),
    Secrets(NewSecrets),
}

/// Make the configs of a new cluster, the client config of its first administrator, and the secrets that all of it is made from
#[derive(Debug, Args)]
pub struct Config {
    /// Name of the cluster
    name: String,
    /// Where its Kubernetes API will be: https://<host>[:<port>]
    endpoint: String,
    /// Directory to write to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    patches: Patches,
    /// Machine APIs of the control planes [default: the endpoint's host]
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',')]
    control_planes: Vec<String>,
    /// Let ordinary pods run on control planes
    #[arg(long)]
    allow_scheduling_on_control_planes: bool,
    /// Make the configs from these secrets instead of new ones
    #[arg(long, value_name = "FILE")]
    with_secrets: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Default, Args)]
pub struct Patches {
    /// Change fields of all configs: YAML, or @FILE
    #[arg(short = 'p', long = "patch", value_name = "PATCH")]
    pub all: Vec<String>,
    /// Change fields of the control planes' configs
    #[arg(long = "patch-control-plane", value_name = "PATCH")]
    pub control_plane: Vec<String>,
    /// Change fields of the workers' config
    #[arg(long = "patch-worker", value_name = "PATCH")]
    pub worker: Vec<String>,
}

/// Make a client certificate and print a client config with it
#[derive(Debug, Args)]
pub struct Client {
    /// What its holder may do
    #[arg(long, value_enum)]
    role: RoleName,
    /// Who holds it; it stands in logs
    #[arg(long)]
    name: String,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value_t = CERTIFICATE_LIFETIME)]
    valid_for: Duration,
    /// The cluster's secrets
    #[arg(long, value_name = "FILE", default_value = "secrets.yaml")]
    with_secrets: PathBuf,
    /// Name of the context in the client config
    #[arg(long = "as", value_name = "CONTEXT", default_value = "corten")]
    context_name: String,
    /// Machine APIs of the control planes
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',', value_parser = crate::connection::node, required = true)]
    control_planes: Vec<machine::config::HostPort>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    Reader,
    Operator,
    Admin,
}

/// Make the secrets of a new cluster, to keep offline
#[derive(Debug, Args)]
pub struct NewSecrets {
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "secrets.yaml")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// Names of the files that `gen config` writes.
pub mod names {
    pub const CONTROL_PLANE: &str = "controlplane.yaml";
    pub const CONTROL_PLANE_JOIN: &str = "controlplane-join.yaml";
    pub const WORKER: &str = "worker.yaml";
    pub const CLIENT: &str = "client.yaml";
    pub const SECRETS: &str = "secrets.yaml";
}

impl Gen {
    pub fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Gen::Config(config) => config.run(world),
            Gen::Client(client) => client.run(),
            Gen::Secrets(secrets) => secrets.run(),
        }
    }
}

impl Config {
    fn run(self, world: &World) -> Result<(), Failure> {
        let at = |name: &str| self.output.join(name);
        let secrets_path = at(names::SECRETS);
        let mut paths: Vec<PathBuf> = [names::CONTROL_PLANE, names::CONTROL_PLANE_JOIN, names::WORKER, names::CLIENT].map(at).to_vec();
        if self.with_secrets.is_none() {
            paths.push(secrets_path.clone());
        }
        if !self.force {
            files::refuse_existing(&paths)?;
        }
        let now = SystemTime::now();
        let secrets = match &self.with_secrets {
            Some(path) => read_secrets(path)?,
            None => Secrets::generate(now).map_err(|error| Failure::of("secrets", &error))?,
        };
        let options = Options {
            machine_endpoints: self.control_planes.clone(),
            allow_scheduling_on_control_planes: self.allow_scheduling_on_control_planes,
            ..Options::new(now)
        };
        let texts = texts(&self.name, &self.endpoint, &secrets, &options, &self.patches)?;
        if self.with_secrets.is_none() {
            write_secrets(&secrets_path, &secrets)?;
        }
        texts.write(&self.output)?;
        if !world.quiet {
            paths.iter().for_each(|path| tell(&format!("wrote {}", path.display())));
            tell(&format!(
                "next: machinectl apply -f {} -n ADDRESS --fingerprint sha256:... (as the machine's console shows)",
                paths[0].display()
            ));
            tell(&format!("      machinectl context add {}", at(names::CLIENT).display()));
        }
        Ok(())
    }
}

/// The files of a cluster as texts, checked.
#[derive(Debug)]
pub struct Texts {
    control_plane: String,
    control_plane_join: String,
    worker: String,
    pub client: ClientConfig,
}

/// Generates, patches and checks; nothing is written.
pub fn texts(name: &str, endpoint: &str, secrets: &Secrets, options: &Options, patches: &Patches) -> Result<Texts, Failure> {
    let read = |all: &[String]| all.iter().map(|patch| patch::read(patch)).collect::<Result<Vec<_>, _>>();
    let (all, control_plane, worker) = (read(&patches.all)?, read(&patches.control_plane)?, read(&patches.worker)?);
    let of_control_plane: Vec<&Value> = all.iter().chain(&control_plane).collect();
    let of_worker: Vec<&Value> = all.iter().chain(&worker).collect();
    let configs = generate(name, endpoint, secrets, options).map_err(|error| Failure::of("gen config", &error))?;
    let GeneratedConfigs { controlplane, controlplane_join, worker, client } = configs;
    Ok(Texts {
        control_plane: text(&controlplane, &of_control_plane, names::CONTROL_PLANE)?,
        control_plane_join: text(&controlplane_join, &of_control_plane, names::CONTROL_PLANE_JOIN)?,
        worker: text(&worker, &of_worker, names::WORKER)?,
        client,
    })
}

fn text(document: &Document, patches: &[&Value], name: &str) -> Result<String, Failure> {
    let mut value = serde_json::to_value(document).map_err(|error| Failure::of(name, &error))?;
    patches.iter().for_each(|patch| patch::merge(&mut value, patch));
    let text = yaml::print(&value);
    machine::config::load(&text, name)?;
    Ok(text)
}

impl Texts {
    pub fn write(&self, directory: &Path) -> Result<(), Failure> {
        for (name, text) in [
            (names::CONTROL_PLANE, &self.control_plane),
            (names::CONTROL_PLANE_JOIN, &self.control_plane_join),
            (names::WORKER, &self.worker),
        ] {
            files::write(&directory.join(name), text, files::SECRET)?;
        }
        write_client(&directory.join(names::CLIENT), &self.client)
    }
}

pub fn write_client(path: &Path, client: &ClientConfig) -> Result<(), Failure> {
    let text = client.to_yaml().map_err(|error| Failure::of(path.display(), &error))?;
    files::write(path, &text, files::SECRET)
}

pub fn read_secrets(path: &Path) -> Result<Secrets, Failure> {
    Secrets::from_yaml(&files::read_text(path)?).map_err(|error| Failure::of(path.display(), &error))
}

pub fn write_secrets(path: &Path, secrets: &Secrets) -> Result<(), Failure> {
    let text = secrets.to_yaml().map_err(|error| Failure::of(path.display(), &error))?;
    files::write(path, &text, files::SECRET)
}

impl Client {
    fn run(self) -> Result<(), Failure> {
        let secrets = read_secrets(&self.with_secrets)?;
        let role = match self.role {
            RoleName::Reader => MachineRole::Reader,
            RoleName::Operator => MachineRole::Operator,
            RoleName::Admin => MachineRole::Admin,
        };
        let endpoints = self.control_planes.iter().map(ToString::to_string).collect();
        let context = issue_client(&secrets, role, &self.name, self.valid_for.0, endpoints, SystemTime::now());
        let mut config = ClientConfig::default();
        config.add(&self.context_name, context.map_err(|error| Failure::of(self.with_secrets.display(), &error))?);
        write(&config.to_yaml().map_err(|error| Failure::of("client config", &error))?);
        Ok(())
    }
}

impl NewSecrets {
    fn run(self) -> Result<(), Failure> {
        if !self.force {
            files::refuse_existing([&self.output])?;
        }
        let secrets = Secrets::generate(SystemTime::now()).map_err(|error| Failure::of("secrets", &error))?;
        write_secrets(&self.output, &secrets)
    }
}
