//! `image-build image`: carries a plan out, phase by phase.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use machine::boot;
use machine::disk::{Partition, Slot};

use crate::contents::Contents;
use crate::disk;
use crate::kernel::{Kernel, Module};
use crate::lock::{Lock, Package};
use crate::manifest::{Manifest, OutputFile, UsedProgram};
use crate::output::Output;
use crate::packages::{Dropped, Store};
use crate::plan::{Inputs, LOADER, Plan};
use crate::platform::{DISK_RAW, DISK_VHD, Platform};
use crate::profile::Profile;
use crate::progress::Progress;
use crate::signing::Signer;
use crate::tree::{Node, Source, Tree};
use crate::update_file::Updates;
use crate::{check, digest, esp, filesystem, forms, identity, initramfs, root, sbom, uki};

#[derive(Debug)]
pub struct Request {
    pub profile: Profile,
    pub platform: Platform,
    pub inputs: Inputs,
    pub out: PathBuf,
    /// Whether a version that the mirror has dropped ends the build.
    pub locked: bool,
    pub accept_executables: bool,
    pub updates: Updates,
    /// Who signs for Secure Boot.
    pub signer: Option<Signer>,
    /// Secure Boot variables that the ISO enrols.
    pub enrolled: Vec<(String, Vec<u8>)>,
}

/// Everything that stands before the first byte is written.
#[derive(Debug)]
pub struct Composition {
    pub plan: Plan,
    root: Tree,
    initramfs: Tree,
    kernel: Kernel,
    stub: Vec<u8>,
    loader: Vec<u8>,
    /// Packages that something was taken from, with their files.
    pub packages: Vec<(Package, PathBuf)>,
    notices: Vec<String>,
}

pub fn build(request: &Request, lock: Lock, asked: &BTreeSet<String>, store: &mut Store, progress: &Progress) -> Result<()> {
    Plan::decide(&request.profile, &request.platform, &lock, &request.inputs)?.check_inputs(&request.profile, &request.inputs)?;
    let composition = compose_or_renew(request, lock, asked, store, progress)?;
    let output = Output::begin(&request.out)?;
    write(request, &composition, output.folder(), progress).map_err(explain_full_disk)?;
    progress.phase("syncing");
    output.publish().map_err(explain_full_disk)?;
    if let Some(notice) = request.updates.notice() {
        progress.notice(notice);
    }
    progress.phase(&format!("done: {}", request.out.display()));
    Ok(())
}

/// Composes from the lock; where the mirror has dropped a version, from the newest signed ones of the same release. All of them, because
/// packages of one source go together.
fn compose_or_renew(
    request: &Request,
    lock: Lock,
    asked: &BTreeSet<String>,
    store: &mut Store,
    progress: &Progress,
) -> Result<Composition> {
    let error = match compose(request, &lock, vec![], store, progress) {
        Err(error) if error.is::<Dropped>() => error,
        result => return result,
    };
    if request.locked {
        return Err(error.context(
            "--locked forbids other versions; DEBIAN_ARCHIVE_MIRROR can name a mirror that keeps them, `make lock` renews the lock",
        ));
    }
    let mut notices = vec![format!("{error}; taking the newest signed versions of Debian {}", lock.release)];
    let newest = store.resolve(asked)?;
    notices.extend(newest.differences(&lock));
    for notice in &notices {
        progress.notice(notice);
    }
    compose(request, &newest, notices, store, progress)
}

fn compose(request: &Request, lock: &Lock, notices: Vec<String>, store: &mut Store, progress: &Progress) -> Result<Composition> {
    let Request { profile, platform, inputs, .. } = request;
    let plan = Plan::decide(profile, platform, lock, inputs)?;
    progress.phase("packages");
    let mut contents = Contents::new(lock, store);
    let kernel = Kernel::read(&contents.file(&plan.kernel.name)?)?;
    let loader = contents.bytes(&profile.boot_loader.package, &profile.boot_loader.loader)?;
    let stub = contents.bytes(&profile.boot_loader.package, &profile.boot_loader.stub)?;
    progress.phase("root tree");
    let modules = kernel.select(&plan.root_modules)?;
    let mut root = root::compose(profile, &plan, &mut contents, &modules, &kernel.release)?;
    if let Some(keys) = &request.updates.trusted {
        identity::trust(&mut root, keys)?;
    }
    check::forbidden(&root)?;
    check::golden(profile, &check::executables(&root), request.accept_executables)?;
    let early: Vec<Module> = kernel.select(&plan.initramfs_modules)?;
    let initramfs = initramfs::tree(&kernel.release, &early, Source::Path(inputs.binaries.join("init")))?;
    Ok(Composition { plan, root, initramfs, packages: contents.used(), kernel, stub, loader, notices })
}

fn write(request: &Request, composition: &Composition, folder: &Path, progress: &Progress) -> Result<()> {
    let plan = &composition.plan;
    let date = plan.facts.built_at;
    let at = |name: &str| folder.join(name);

    let staging = at("root");
    fs::create_dir(&staging).with_context(|| format!("making {}", staging.display()))?;
    // It becomes the root directory: whatever the umask is.
    fs::set_permissions(&staging, fs::Permissions::from_mode(0o755)).with_context(|| format!("opening {} to all", staging.display()))?;
    composition.root.write(&staging)?;
    index_modules(&staging, &composition.kernel)?;
    let seed = digest::tree(&staging)?;
    progress.phase("erofs");
    filesystem::erofs(&staging, &at("root.erofs"), date, &seed)?;
    fs::remove_dir_all(&staging).with_context(|| format!("removing {}", staging.display()))?;
    progress.phase("dm-verity");
    let root_hash = filesystem::verity(&at("root.erofs"), &at("root.verity"), &seed)?;
    put(&at("root-hash"), format!("{root_hash}\n").as_bytes())?;

    progress.phase("initramfs and UKI");
    let command_line = plan.sealed_command_line(&root_hash);
    let initramfs = initramfs::pack(&composition.initramfs, date)?;
    let parts = uki::Parts {
        os_release: &identity::os_release(&plan.facts),
        command_line: &command_line,
        kernel_release: &composition.kernel.release,
        kernel: &composition.kernel.image,
        initramfs: &initramfs,
    };
    let uki = signed(request, "the UKI", uki::assemble(&composition.stub, &parts)?, folder)?;
    put(&at("uki.efi"), &uki)?;
    let loader = signed(request, "the boot loader", composition.loader.clone(), folder)?;
    put(&at(LOADER), &loader)?;

    progress.phase("disk");
    write_disk(plan, &loader, &uki, folder, &root_hash)?;
    let parts = forms::Parts {
        folder,
        kernel: &composition.kernel.image,
        initramfs: &initramfs,
        command_line: &command_line,
        root_hash: &root_hash,
        version: &plan.facts.version,
        profile: &plan.facts.profile,
        enrolled: &request.enrolled,
        date,
    };
    forms::make(&request.platform, &parts, progress)?;
    if request.updates.signs() {
        progress.phase("update file");
        request.updates.write(&plan.facts, &composition.kernel.release, &root_hash, folder, progress)?;
    }

    progress.phase("SBOM");
    let parts = sbom::Request {
        profile: &request.profile,
        inputs: &request.inputs,
        workspace: Path::new("."),
        root_hash: &root_hash,
        packages: &composition.packages,
    };
    sbom::write(&parts, folder)?;

    progress.phase("manifest");
    let mut files = Vec::new();
    for name in plan.outputs.iter().filter(|name| !NOT_LISTED.contains(&name.as_str())) {
        files.push(OutputFile::of(folder, name)?);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let manifest = Manifest {
        image: plan.facts.clone(),
        platform: request.platform.name.clone(),
        kernel_release: composition.kernel.release.clone(),
        root_hash,
        command_line,
        files,
        packages: composition.packages.iter().map(|(package, _)| package.into()).collect(),
        programs: programs(request, &composition.root)?,
        notices: composition.notices.clone(),
    };
    manifest.write(&at("manifest.json"))
}

/// Files without a digest in the manifest: itself, and disks that are gigabytes of holes.
const NOT_LISTED: [&str; 3] = ["manifest.json", DISK_RAW, DISK_VHD];

/// What the firmware starts, signed where there is a key.
fn signed(request: &Request, what: &str, program: Vec<u8>, folder: &Path) -> Result<Vec<u8>> {
    match &request.signer {
        Some(signer) => signer.sign(what, &program, folder),
        None => Ok(program),
    }
}

/// Keeps of depmod's files what libkmod reads, and of Debian's lists what the kubelet and kube-proxy look into.
fn index_modules(staging: &Path, kernel: &Kernel) -> Result<()> {
    let directory = staging.join("usr/lib/modules").join(&kernel.release);
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    for (name, bytes) in &kernel.lists {
        put(&directory.join(name), bytes)?;
    }
    filesystem::module_index(staging, &kernel.release)?;
    for name in ["modules.alias", "modules.symbols", "modules.order", "modules.builtin.modinfo", "modules.devname"] {
        let path = directory.join(name);
        if path.exists() {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    for entry in fs::read_dir(&directory)? {
        // As the whole tree: whatever the umask was.
        let path = entry?.path();
        if path.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        }
    }
    Ok(())
}

fn write_disk(plan: &Plan, loader: &[u8], uki: &[u8], folder: &Path, root_hash: &str) -> Result<()> {
    let path = folder.join(DISK_RAW);
    let making = || format!("making {}", path.display());
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).with_context(making)?;
    file.set_len(plan.disk_bytes).with_context(making)?;
    disk::write_table(&mut file, &plan.partitions, plan.disk_bytes, root_hash)?;
    let entry = esp::first_entry(&plan.facts.version, &plan.facts.profile);
    let files: &esp::Files<'_> = &[
        (boot::FALLBACK_LOADER, loader),
        (boot::LOADER, loader),
        (boot::LOADER_CONFIG_PATH, esp::LOADER_CONFIG.as_bytes()),
        ("loader/entries/corten-a.conf", entry.as_bytes()),
        ("corten/a.efi", uki),
    ];
    let extent = *plan.extent(Partition::Esp)?;
    let serial = u32::from_le_bytes(digest::derive("ESP", root_hash)[..4].try_into()?);
    let image = folder.join("esp");
    esp::make(&image, extent.size, serial, plan.facts.built_at, files, folder)?;
    disk::fill(&file, &extent, &image)?;
    fs::remove_file(&image).with_context(|| format!("removing {}", image.display()))?;
    disk::fill(&file, plan.extent(Slot::A.root())?, &folder.join("root.erofs"))?;
    disk::fill(&file, plan.extent(Slot::A.verity())?, &folder.join("root.verity"))
}

fn programs(request: &Request, root: &Tree) -> Result<Vec<UsedProgram>> {
    let placed = request.profile.programs.iter().map(|p| &p.path).chain(request.profile.components.iter().map(|c| &c.path));
    let mut used = Vec::new();
    for path in placed {
        let Some(Node::File { source, .. }) = root.get(path) else { bail!("{path} is not in the root") };
        used.push(UsedProgram { path: path.clone(), sha256: digest::bytes(&source.read()?) });
    }
    Ok(used)
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Says it once and plainly, wherever it happened: in this program or in a tool.
fn explain_full_disk(error: anyhow::Error) -> anyhow::Error {
    let full = error.chain().any(|cause| {
        let code = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        code == Some(std::io::ErrorKind::StorageFull) || cause.to_string().contains("No space left on device")
    });
    if full { error.context("the disk is full: free some space and repeat; nothing was left behind") } else { error }
}
