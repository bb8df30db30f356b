//! image-build: from a profile to a bootable image. Reads profiles and the package lock of this repository, Debian packages from the
//! host's mirror, and what cargo and `make components` built; writes one output folder. Needs no privileges and changes nothing of the host.

mod apt;
mod archive;
mod check;
mod components;
mod contents;
mod deb;
mod digest;
mod disk;
mod esp;
mod filesystem;
mod forms;
mod identity;
mod image;
mod initramfs;
mod iso;
mod kernel;
mod keys;
mod libraries;
mod lock;
mod manifest;
mod network_boot;
mod output;
mod packages;
mod plan;
mod platform;
mod profile;
mod progress;
mod root;
mod sbom;
mod signing;
mod size;
mod tools;
mod tree;
mod uki;
mod update_file;
mod versions;
mod vhd;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use apt::mirrors::Environment;
use lock::Lock;
use packages::{Sources, Store};
use plan::{Inputs, Plan};
use platform::Platform;
use profile::Profile;
use progress::Progress;
use signing::{Signer, With};
use update::Version;
use update_file::UpdateArguments;

#[derive(Debug, Parser)]
#[command(version, about = "Makes Corten images")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Prints errors and notices only
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds an image from a profile
    Image(Box<ImageArguments>),
    /// Resolves the Debian packages of all profiles and platforms anew and writes the lock file
    Lock(LockArguments),
    /// Shows what an image weighs
    Size(size::Args),
    /// Makes an OCI archive of one program
    Archive(ArchiveArguments),
    /// Builds the upstream components that are stale
    Components(components::Args),
    /// Shows what an image consists of, with versions and licences
    Sbom(sbom::Args),
    /// Makes keys that images and updates are signed with
    Keys(keys::Args),
}

#[derive(Debug, Args)]
struct ImageArguments {
    /// Profile, such as configs/profiles/controlplane.toml
    #[arg(long)]
    profile: PathBuf,
    /// Where machines of this image run: a file of the platforms' folder
    #[arg(long, default_value = platform::DEFAULT)]
    platform: String,
    /// Folder of the platforms
    #[arg(long, default_value = "configs/platforms")]
    platforms: PathBuf,
    /// Output folder; replaced as a whole when the build has succeeded
    #[arg(long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Prints what would be done
    #[arg(long)]
    dry_run: bool,
    /// Form of the printed plan
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    /// Fails when the mirror no longer has a locked version, instead of taking the newest signed one
    #[arg(long)]
    locked: bool,
    /// Writes the golden list of executables instead of comparing with it
    #[arg(long)]
    accept_executables: bool,
    /// Version of the image
    #[arg(long = "version", alias = "image-version", default_value = env!("CARGO_PKG_VERSION"))]
    image_version: Version,
    /// Built components: <name>/bin/<file>
    #[arg(long, default_value = "build/components")]
    components: PathBuf,
    /// Sources of the components, for their versions
    #[arg(long, default_value = "components")]
    component_sources: PathBuf,
    /// Statically linked programs of this workspace
    #[arg(long, default_value = "target/x86_64-unknown-linux-gnu/image")]
    binaries: PathBuf,
    #[command(flatten)]
    updates: UpdateArguments,
    #[command(flatten)]
    secure_boot: SecureBootArguments,
    #[command(flatten)]
    packages: PackageArguments,
}

#[derive(Debug, Args)]
struct SecureBootArguments {
    /// Private key (PEM) that signs boot loader and UKI for Secure Boot
    #[arg(long, value_name = "FILE", requires = "secure_boot_certificate", conflicts_with = "secure_boot_sign_command")]
    secure_boot_key: Option<PathBuf>,
    /// Command that signs instead, such as one that asks a KMS; it gets two more arguments: the file to sign and the file to write
    #[arg(long, value_name = "COMMAND", requires = "secure_boot_certificate")]
    secure_boot_sign_command: Option<String>,
    /// Certificate (PEM) that belongs to the key
    #[arg(long, value_name = "FILE")]
    secure_boot_certificate: Option<PathBuf>,
    /// Folder with PK.auth, KEK.auth and db.auth, which the ISO enrols in firmware that is in setup mode
    #[arg(long, value_name = "DIR")]
    secure_boot_enroll: Option<PathBuf>,
}

impl SecureBootArguments {
    fn signer(&self) -> Result<Option<Signer>> {
        let with = match (&self.secure_boot_key, &self.secure_boot_sign_command) {
            (Some(key), _) => With::Key(key.clone()),
            (None, Some(command)) => With::Command(command.clone()),
            (None, None) if self.secure_boot_certificate.is_some() => {
                bail!("--secure-boot-certificate: nothing signs; give --secure-boot-key or --secure-boot-sign-command as well")
            }
            (None, None) => return Ok(None),
        };
        let certificate = self.secure_boot_certificate.clone().context("no certificate: give --secure-boot-certificate")?;
        Ok(Some(Signer { with, certificate }))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct LockArguments {
    /// Folder of the profiles
    #[arg(long, default_value = "configs/profiles")]
    profiles: PathBuf,
    /// Folder of the platforms
    #[arg(long, default_value = "configs/platforms")]
    platforms: PathBuf,
    #[command(flatten)]
    packages: PackageArguments,
}

#[derive(Debug, Args)]
struct PackageArguments {
    /// Lock file of the Debian packages
    #[arg(long, default_value = "configs/packages.lock")]
    lock: PathBuf,
    /// Private apt root and cache of packages
    #[arg(long, default_value = "build/apt")]
    apt: PathBuf,
    /// Debian mirror instead of the host's
    #[arg(long, env = "DEBIAN_MIRROR", hide_env_values = true)]
    debian_mirror: Option<String>,
    /// Mirror of Debian's security updates instead of the host's
    #[arg(long, env = "DEBIAN_SECURITY_MIRROR", hide_env_values = true)]
    debian_security_mirror: Option<String>,
    /// Mirrors that keep old versions, tried in order for what the mirror has dropped
    #[arg(long, env = "DEBIAN_ARCHIVE_MIRROR", hide_env_values = true, value_delimiter = ',')]
    debian_archive_mirror: Vec<String>,
    /// Date of everything in the image, in seconds since the epoch [default: the lock file's]
    #[arg(long, env = "SOURCE_DATE_EPOCH")]
    source_date_epoch: Option<u64>,
}

#[derive(Debug, Args)]
struct ArchiveArguments {
    /// Name with tag, such as corten.dev/hello:1.0
    #[arg(long)]
    name: String,
    /// Statically linked program
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// Place of the program in the image [default: its file name below /]
    #[arg(long)]
    path: Option<String>,
    /// Arguments of the program
    #[arg(long = "argument")]
    arguments: Vec<String>,
    /// Who runs it: <uid>:<gid>
    #[arg(long, default_value = "65532:65532")]
    user: String,
    /// Ports that it listens on, such as 8080 or 53/udp
    #[arg(long = "port", value_parser = port)]
    ports: Vec<String>,
    /// <key>=<value>
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Date of everything in the image, in seconds since the epoch
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
    source_date_epoch: u64,
    #[arg(long)]
    out: PathBuf,
}

fn port(text: &str) -> Result<String, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let legal = number.parse::<u16>().is_ok_and(|number| number != 0) && ["tcp", "udp", "sctp"].contains(&protocol);
    if legal { Ok(format!("{number}/{protocol}")) } else { Err("expected <number> or <number>/<tcp|udp|sctp>".to_owned()) }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected <key>=<value>")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl PackageArguments {
    fn sources(&self) -> Sources {
        Sources {
            directory: self.apt.clone(),
            environment: Environment { mirror: self.debian_mirror.clone(), security_mirror: self.debian_security_mirror.clone() },
            archive_mirrors: self.debian_archive_mirror.clone(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = arguments.quiet;
    let progress = Progress::new(quiet);
    let result = match arguments.command {
        Command::Image(arguments) => image(*arguments, &progress),
        Command::Lock(arguments) => lock(&arguments, &progress),
        Command::Archive(arguments) => archive(arguments),
        Command::Size(arguments) => size::run(&arguments),
        Command::Components(arguments) => components::run(&arguments, quiet),
        Command::Sbom(arguments) => sbom::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image-build: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn image(arguments: ImageArguments, progress: &Progress) -> Result<()> {
    let profile = Profile::load(&arguments.profile)?;
    let platform = Platform::load(&arguments.platforms, &arguments.platform)?;
    let lock = Lock::load(&arguments.packages.lock)?;
    let updates = arguments.updates.read()?;
    let inputs = Inputs {
        binaries: arguments.binaries,
        components: arguments.components,
        component_sources: arguments.component_sources,
        version: arguments.image_version.to_string(),
        date: arguments.packages.source_date_epoch.unwrap_or(lock.date),
        signs_update: updates.signs(),
    };
    if arguments.dry_run {
        let plan = Plan::decide(&profile, &platform, &lock, &inputs)?;
        match arguments.output {
            Form::Text => print!("{plan}"),
            Form::Json => println!("{}", serde_json::to_string_pretty(&plan)?),
        }
        return Ok(());
    }
    let signer = arguments.secure_boot.signer()?;
    let enrolled = arguments.secure_boot.secure_boot_enroll.as_deref().map(signing::enrolled).transpose()?.unwrap_or_default();
    let more = signer.iter().flat_map(Signer::tools).chain(platform.outputs.iter().flat_map(|form| form.tools().iter().copied()));
    tools::check(&tools::FOR_IMAGES.into_iter().chain(more).collect::<Vec<_>>())?;
    let mut store = Store::open(arguments.packages.sources())?;
    let out = arguments.out.context("no output folder: give --out")?;
    let asked: BTreeSet<String> = lock.asked.iter().cloned().chain(profile.asked()).chain([platform.kernel.package.clone()]).collect();
    let request = image::Request {
        profile,
        platform,
        inputs,
        out,
        locked: arguments.locked,
        accept_executables: arguments.accept_executables,
        updates,
        signer,
        enrolled,
    };
    image::build(&request, lock, &asked, &mut store, progress)
}

fn lock(arguments: &LockArguments, progress: &Progress) -> Result<()> {
    let kernels = Platform::load_all(&arguments.platforms)?.into_iter().map(|platform| platform.kernel.package);
    let asked = Profile::load_all(&arguments.profiles)?.iter().flat_map(Profile::asked).chain(kernels).collect();
    let path = &arguments.packages.lock;
    let old = if path.exists() { Some(Lock::load(path)?) } else { None };
    progress.phase("resolving Debian packages");
    let new = Store::open(arguments.packages.sources())?.resolve(&asked)?;
    for line in old.iter().flat_map(|old| new.differences(old)) {
        println!("{line}");
    }
    new.save(path)?;
    progress.phase(&format!("done: {}, {} packages", path.display(), new.packages.len()));
    Ok(())
}

fn archive(arguments: ArchiveArguments) -> Result<()> {
    let file_name = arguments.binary.file_name().context("no file name: give --binary a program")?.to_string_lossy().into_owned();
    let path = arguments.path.unwrap_or(format!("/{file_name}"));
    let program = fs::read(&arguments.binary).with_context(|| format!("reading {}", arguments.binary.display()))?;
    let mut image = archive::of_program(&arguments.name, &path, program, &arguments.user, arguments.source_date_epoch);
    image.entrypoint.extend(arguments.arguments);
    image.ports = arguments.ports;
    image.labels = arguments.labels.into_iter().collect::<BTreeMap<_, _>>();
    let packed = archive::pack(&image)?;
    if let Some(parent) = arguments.out.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let partial = arguments.out.with_extension("partial");
    fs::write(&partial, packed).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, &arguments.out).with_context(|| format!("writing {}", arguments.out.display()))
}
