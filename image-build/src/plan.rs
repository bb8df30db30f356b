//! What a build will do, decided before anything is fetched or written, so that it can be printed.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use machine::disk::{self, Extent, Partition};
use machine::protocol::ImageFacts;
use serde::Serialize;

use crate::disk::SECTOR;
use crate::lock::Lock;
use crate::platform::Platform;
use crate::profile::{ArchiveProgram, Profile};
use crate::update_file;
use crate::versions::Components;

/// Where inputs lie and what is wanted.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Programs of this workspace.
    pub binaries: PathBuf,
    /// Built components: `<name>/bin/<file>`.
    pub components: PathBuf,
    /// Their sources, for the versions: `components.toml` and `<name>/go.mod`.
    pub component_sources: PathBuf,
    pub version: String,
    /// Seconds since the epoch.
    pub date: u64,
    /// Whether there are keys that sign an update file.
    pub signs_update: bool,
}

impl Inputs {
    pub fn components(&self) -> Components<'_> {
        Components { sources: &self.component_sources, built: &self.components }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub facts: ImageFacts,
    pub kernel: PackageVersion,
    /// Without the root hash, which is not known yet.
    pub command_line: String,
    /// Listed packages; libraries that their programs load are added when they are unpacked.
    pub packages: Vec<PlannedPackage>,
    pub files: Vec<PlacedFile>,
    pub archives: Vec<PlannedArchive>,
    pub initramfs_modules: Vec<String>,
    pub root_modules: Vec<String>,
    pub partitions: Vec<Extent>,
    pub disk_bytes: u64,
    /// Names in the output folder.
    pub outputs: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PackageVersion {
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedPackage {
    pub name: String,
    pub version: String,
    pub files: Vec<String>,
}

/// A program of ours or a component's, and its place in the root.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlacedFile {
    pub from: PathBuf,
    pub path: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedArchive {
    /// In the root.
    pub path: String,
    pub image: String,
    pub from: PathBuf,
    pub program: String,
    pub user: String,
}

/// systemd-boot in the output folder.
pub const LOADER: &str = "systemd-bootx64.efi";
/// What every output folder holds besides the platform's forms.
const OUTPUTS: [&str; 7] = ["uki.efi", LOADER, "root.erofs", "root.verity", "root-hash", "manifest.json", "sbom.spdx.json"];

impl Plan {
    pub fn decide(profile: &Profile, platform: &Platform, lock: &Lock, inputs: &Inputs) -> Result<Plan> {
        let kernel = lock.behind(&platform.kernel.package, "linux-image-")?;
        let mut packages = Vec::new();
        for wanted in &profile.packages {
            let version = lock.require(&wanted.name)?.version.clone();
            packages.push(PlannedPackage { name: wanted.name.clone(), version, files: wanted.files.clone() });
        }
        for bundle in &profile.bundles {
            let version = lock.require(&bundle.package)?.version.clone();
            packages.push(PlannedPackage { name: bundle.package.clone(), version, files: vec![bundle.files.clone()] });
        }
        lock.require(&profile.boot_loader.package)?;
        let components = inputs.components();
        let program = |name: &str| inputs.binaries.join(name);
        let ours = profile.programs.iter().map(|p| PlacedFile { from: program(&p.name), path: p.path.clone() });
        let theirs = profile.components.iter().map(|c| PlacedFile { from: components.file(&c.name, &c.file), path: c.path.clone() });
        let mut archives = Vec::new();
        for archive in &profile.archives {
            let (from, version) = match &archive.from {
                ArchiveProgram::Program(name) => (program(name), inputs.version.clone()),
                ArchiveProgram::Component(place) => {
                    let (name, file) = place
                        .split_once('/')
                        .with_context(|| format!("archive {}: {place:?}: expected <component>/<file>", archive.name))?;
                    (components.file(name, file), components.pinned(name)?)
                }
            };
            archives.push(PlannedArchive {
                path: format!("/usr/share/corten/images/{}.tar", archive.name),
                image: archive.image.replace("{version}", &version),
                from,
                program: archive.path.clone(),
                user: archive.user.clone(),
            });
        }
        let version_of = |name| if profile.component_names().contains(name) { components.pinned(name) } else { Ok(String::new()) };
        let (kubernetes, etcd) = (version_of("kubernetes")?, version_of("etcd")?);
        let disk_bytes = disk::least_bytes(&profile.partitions);
        let partitions = disk::layout(&profile.partitions, disk_bytes, SECTOR)?;
        let mut arguments = [platform.kernel.command_line.as_slice(), &profile.kernel.command_line].concat();
        arguments.push(format!("corten.platform={}", platform.name));
        let facts = ImageFacts {
            version: inputs.version.clone(),
            profile: platform.image_name(&profile.name),
            architecture: profile.architecture.clone(),
            kubernetes,
            etcd,
            built_at: inputs.date,
            partitions: profile.partitions.clone(),
        };
        let update = inputs.signs_update.then(|| update_file::name(&facts));
        Ok(Plan {
            outputs: platform.files().chain(OUTPUTS).map(str::to_owned).chain(update).collect(),
            facts,
            kernel: PackageVersion { name: kernel.name.clone(), version: kernel.version.clone() },
            command_line: arguments.join(" "),
            packages,
            files: ours.chain(theirs).collect(),
            archives,
            initramfs_modules: [profile.modules.initramfs.as_slice(), &platform.modules.initramfs].concat(),
            root_modules: [profile.modules.root.as_slice(), &platform.modules.root].concat(),
            partitions,
            disk_bytes,
        })
    }

    /// The kernel command line with the root hash, as it is sealed in the UKI.
    pub fn sealed_command_line(&self, root_hash: &str) -> String {
        format!("{} corten.roothash={root_hash}", self.command_line)
    }

    pub fn extent(&self, partition: Partition) -> Result<&Extent> {
        let found = self.partitions.iter().find(|extent| extent.partition == partition);
        found.with_context(|| format!("the profile has no partition {}", partition.label()))
    }

    /// Whether all that is built before an image is there, and of the right version.
    pub fn check_inputs(&self, profile: &Profile, inputs: &Inputs) -> Result<()> {
        let files = self.files.iter().map(|file| &file.from).chain(self.archives.iter().map(|archive| &archive.from));
        let missing: Vec<String> = files.filter(|path| !path.is_file()).map(|path| path.display().to_string()).collect();
        if !missing.is_empty() {
            bail!("not built yet: {}; `make components` builds components, `make build` programs of the workspace", missing.join(", "));
        }
        profile.component_names().iter().try_for_each(|name| inputs.components().check_built(name))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImageFacts { version, profile, architecture, kubernetes, built_at, .. } = &self.facts;
        let kubernetes = if kubernetes.is_empty() { "without Kubernetes" } else { kubernetes };
        writeln!(f, "image      corten {version} {profile} {architecture}, {kubernetes}, date {built_at}")?;
        writeln!(f, "kernel     {} {}", self.kernel.name, self.kernel.version)?;
        writeln!(f, "arguments  {}", self.command_line)?;
        writeln!(f, "packages")?;
        for package in &self.packages {
            writeln!(f, "  {} {}", package.name, package.version)?;
            for file in &package.files {
                writeln!(f, "    {file}")?;
            }
        }
        writeln!(f, "programs")?;
        for file in &self.files {
            writeln!(f, "  {}  <- {}", file.path, file.from.display())?;
        }
        for archive in &self.archives {
            writeln!(f, "  {}  <- {} ({})", archive.path, archive.image, archive.from.display())?;
        }
        writeln!(f, "modules of the initramfs\n  {}", self.initramfs_modules.join(" "))?;
        writeln!(f, "modules of the root\n  {}", self.root_modules.join(" "))?;
        writeln!(f, "disk, {} MiB", self.disk_bytes >> 20)?;
        for extent in &self.partitions {
            writeln!(f, "  {:14} {:6} MiB at {:6} MiB", extent.partition.label(), extent.size >> 20, extent.start >> 20)?;
        }
        writeln!(f, "outputs    {}", self.outputs.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan(profile: &str) -> Plan {
        plan_for(profile, "qemu")
    }

    fn plan_for(profile: &str, platform: &str) -> Plan {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let profile = Profile::load(&workspace.join(format!("configs/profiles/{profile}.toml"))).unwrap();
        let platform = Platform::load(&workspace.join("configs/platforms"), platform).unwrap();
        let lock = Lock::load(&workspace.join("configs/packages.lock")).unwrap();
        let inputs = Inputs {
            binaries: "binaries".into(),
            components: "built".into(),
            component_sources: workspace.join("components"),
            version: "1.2.3".into(),
            date: 1_700_000_000,
            signs_update: true,
        };
        Plan::decide(&profile, &platform, &lock, &inputs).unwrap()
    }

    #[test]
    fn only_control_planes_have_etcd_and_only_nodes_have_kubernetes() {
        for (profile, etcd, kubernetes) in [("bare", false, false), ("worker", false, true), ("controlplane", true, true)] {
            let plan = plan(profile);
            assert_eq!(plan.facts.profile, profile);
            assert_eq!(plan.extent(Partition::Etcd).is_ok(), etcd, "{profile}: partition");
            assert_eq!(plan.files.iter().any(|file| file.path == "/usr/bin/etcd"), etcd, "{profile}: program");
            assert_eq!(plan.facts.kubernetes.starts_with("v1."), kubernetes, "{profile}: {:?}", plan.facts.kubernetes);
            assert_eq!(plan.facts.etcd.starts_with("v3."), etcd, "{profile}: {:?}", plan.facts.etcd);
            assert_eq!(!plan.archives.is_empty(), kubernetes, "{profile}: archives");
        }
    }

    #[test]
    fn container_images_are_named_by_the_version_of_what_is_in_them() {
        let images: Vec<String> = plan("worker").archives.iter().map(|archive| archive.image.clone()).collect();
        assert_eq!(images[0], "corten.dev/pause:1.2.3");
        assert!(images[1].starts_with("corten.dev/coredns:v1."), "{images:?}");
    }

    #[test]
    fn the_command_line_ends_with_the_root_hash_and_forbids_unsigned_modules() {
        let line = plan("bare").sealed_command_line("ab");
        assert!(line.ends_with(" corten.roothash=ab"), "{line}");
        let fixed = [
            "panic=10",
            "oops=panic",
            "sysctl.kernel.hung_task_panic=1",
            "module.sig_enforce=1",
            "lockdown=integrity",
            "psi=1",
            "cryptomgr.notests=1",
        ];
        for argument in fixed {
            assert!(line.split(' ').any(|word| word == argument), "{argument}: {line}");
        }
    }

    #[test]
    fn a_platform_brings_kernel_console_and_drivers() {
        let (qemu, metal) = (plan("worker"), plan_for("worker", "metal"));
        assert!(
            qemu.kernel.name.contains("-cloud-amd64") && !metal.kernel.name.contains("-cloud-"),
            "{:?} {:?}",
            qemu.kernel,
            metal.kernel
        );
        assert!(qemu.command_line.contains("console=ttyS0,115200 quiet ") && qemu.command_line.ends_with(" corten.platform=qemu"));
        assert!(metal.command_line.contains("console=tty0 quiet ") && metal.command_line.ends_with(" corten.platform=metal"));
        for (modules, name) in
            [(&metal.initramfs_modules, "usb_storage"), (&metal.initramfs_modules, "dm_verity"), (&metal.root_modules, "e1000")]
        {
            assert!(modules.iter().any(|module| module == name), "{name}");
        }
        assert_eq!((qemu.facts.profile.as_str(), metal.facts.profile.as_str()), ("worker", "worker-metal"));
        let has = |name: &str| metal.outputs.iter().any(|output| output == name);
        assert!(has("corten.iso") && has("corten-1.2.3-worker-metal.update") && !has("disk.qcow2"), "{:?}", metal.outputs);
    }

    #[test]
    fn prints_every_file_and_partition() {
        let plan = plan("controlplane");
        let printed = plan.to_string();
        for file in &plan.files {
            assert!(printed.contains(&format!("  {}  <- {}\n", file.path, file.from.display())), "{printed}");
        }
        assert!(printed.contains("ETCD            10240 MiB at   4225 MiB"), "{printed}");
    }
}
