//! Two images of which one comes after the other: what a release changes, once in our own programs, once in the kernel, and once in nothing.
//! The programs are those of the release profile, linked as a whole, where a changed function moves most of what lies behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::{place, program};
use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::{programs, report};

/// The function that changes, and what it becomes: it counts what it takes, and logs it.
const CHANGED_FILE: &str = "nodeagent/src/server/upgrade.rs";
const BEFORE: &str = "    let mut message = Some(first);
    while let Some(UploadRequest { digest, data, base, .. }) = message {
";
const AFTER: &str = "    let mut message = Some(first);
    let (mut patches, mut whole) = (0_u64, 0_u64);
    while let Some(UploadRequest { digest, data, base, .. }) = message {
        match base {
            Some(_) => patches += data.len() as u64,
            None => whole += data.len() as u64,
        }
        if (patches + whole) % (1 << 20) < data.len() as u64 {
            tracing::info!(\"upload: {patches} bytes of patches and {whole} bytes of whole chunks so far\");
        }
";
/// The meta package of the kernel that images for virtual machines have.
const KERNEL: &str = "linux-image-cloud-amd64";

/// What runs and what comes.
#[derive(Debug)]
pub struct Pair {
    pub name: String,
    pub old: PathBuf,
    pub new: PathBuf,
    /// Percent of the whole update that may be sent.
    pub goal: Option<f64>,
    /// Whether other tools are tried: bsdiff needs 17 times the image's size of memory.
    pub peers: bool,
}

/// What a pair differs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A function of the agent, in the bare image
    Userland,
    /// The same in the controlplane image
    UserlandControlplane,
    Kernel,
    /// Nothing that the image is made of
    Config,
}

impl Kind {
    /// What is there already is made anew.
    pub fn make(self) -> anyhow::Result<Pair> {
        let folder = report::directory().join("delta");
        fs::create_dir_all(&folder)?;
        let (binaries, bare) = (programs::released(""), programs::image("bare"));
        Ok(match self {
            Kind::Userland => {
                let (old, new) = (update_of(&bare)?, changed_image("bare")?);
                Pair { name: "userland, bare".to_owned(), old, new, goal: Some(5.0), peers: true }
            }
            Kind::UserlandControlplane => {
                let (old, new) = (update_of(&programs::image("controlplane"))?, changed_image("controlplane")?);
                Pair { name: "userland, controlplane".to_owned(), old, new, goal: Some(5.0), peers: false }
            }
            Kind::Kernel => {
                let lock = folder.join("packages.lock");
                fs::write(&lock, older_kernel()?)?;
                let old = image("bare", &folder.join("kernel-bare"), &binaries, &["--lock", &lock.display().to_string()])?;
                Pair { name: "kernel, bare".to_owned(), old, new: update_of(&bare)?, goal: Some(45.0), peers: true }
            }
            Kind::Config => {
                let notes = folder.join("release-notes");
                fs::write(&notes, "Nothing of the image has changed, only what is said of it.\n")?;
                let options = ["--release-notes", &notes.display().to_string(), "--minimum-version", "0.0.1"];
                let new = image("bare", &folder.join("again-bare"), &binaries, &options)?;
                Pair { name: "config, bare".to_owned(), old: update_of(&bare)?, new, goal: Some(0.0), peers: false }
            }
        })
    }
}

/// The update file of the image with a changed program.
pub fn changed_image(profile: &str) -> anyhow::Result<PathBuf> {
    let folder = report::directory().join("delta");
    fs::create_dir_all(&folder)?;
    let changed = changed_programs(&folder.join("source"))?;
    image(profile, &folder.join(format!("userland-{profile}")), &changed, &[])
}

/// The update file in an image's folder.
pub fn update_of(folder: &Path) -> anyhow::Result<PathBuf> {
    let looking = || format!("looking for an update file in {} (make bench builds it)", folder.display());
    for entry in fs::read_dir(folder).with_context(looking)? {
        let path = entry.with_context(looking)?.path();
        if path.extension().is_some_and(|extension| extension == "update") {
            return Ok(path);
        }
    }
    bail!(looking())
}

/// As `make bench` makes images, of these programs and with these options.
fn image(profile: &str, out: &Path, binaries: &Path, options: &[&str]) -> anyhow::Result<PathBuf> {
    eprintln!("bench: {}", out.display());
    let mut command = Command::new(place::image_build());
    command.current_dir(place::repository()).args(["--quiet", "image", "--platform", "qemu", "--update-level", "19"]);
    command.arg("--profile").arg(format!("configs/profiles/{profile}.toml"));
    command.arg("--binaries").arg(binaries).arg("--update-key").arg(place::update_key()).args(options).arg("--out").arg(out);
    program::printed(&mut command)?;
    update_of(out)
}

/// The released programs once more, with one function changed: built from a copy of the sources that begins with what is compiled already.
fn changed_programs(copy: &Path) -> anyhow::Result<PathBuf> {
    let binaries = copy.join("target/x86_64-unknown-linux-gnu/release");
    if copy.exists() {
        // Both profiles have them.
        if fs::read_to_string(copy.join("made")).ok().as_deref() == Some(&fingerprint()?) {
            return Ok(binaries);
        }
        fs::remove_dir_all(copy).with_context(|| format!("removing {}", copy.display()))?;
    }
    eprintln!("bench: building programs with a changed function in {}", copy.display());
    fs::create_dir_all(copy.join("target/x86_64-unknown-linux-gnu"))?;
    let files = program::printed(Command::new("git").args(["ls-files", "-z"]).current_dir(place::repository()))?;
    for file in files.split_terminator('\0') {
        let (from, to) = (place::repository().join(file), copy.join(file));
        // One that is deleted and not committed yet is still listed.
        if from.is_file() {
            fs::create_dir_all(to.parent().context("a file without a folder")?)?;
            program::printed(Command::new("cp").args(["-p"]).args([&from, &to]))?;
        }
    }
    for compiled in ["target/release", "target/x86_64-unknown-linux-gnu/release"] {
        let to = copy.join(compiled);
        program::printed(Command::new("cp").arg("-a").args([place::repository().join(compiled), to]))?;
    }
    let changed = copy.join(CHANGED_FILE);
    let text = fs::read_to_string(&changed).with_context(|| format!("reading {}", changed.display()))?;
    ensure!(text.matches(BEFORE).count() == 1, "{CHANGED_FILE} has changed: name another function to change in the benchmark");
    fs::write(&changed, text.replace(BEFORE, AFTER))?;
    program::printed(Command::new("make").args(["binaries", "IMAGE_CARGO_PROFILE=release"]).current_dir(copy))?;
    let agents = [programs::released(programs::AGENT), binaries.join(programs::AGENT)].map(fs::read);
    let [released, built] = agents;
    ensure!(released? != built?, "the changed function changed nothing: {}", binaries.display());
    fs::write(copy.join("made"), fingerprint()?)?;
    Ok(binaries)
}

/// Of the released agent: another one makes another pair.
fn fingerprint() -> anyhow::Result<String> {
    let path = programs::released(programs::AGENT);
    let bytes = fs::read(&path).with_context(|| programs::remedy(&path))?;
    Ok(update::Digest::of(&bytes).to_string())
}

/// The lock file with the newest kernel before the one that it names, out of Debian's indices as image-build fetched them.
fn older_kernel() -> anyhow::Result<String> {
    let path = place::repository().join("configs/packages.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut lock: toml::Table = text.parse().with_context(|| format!("reading {}", path.display()))?;
    let packages = lock.get_mut("package").and_then(toml::Value::as_array_mut).context("the lock file has no packages")?;
    let named = |packages: &[toml::Value], name: &str| packages.iter().position(|package| package["name"].as_str() == Some(name));
    let meta = named(packages, KERNEL).with_context(|| format!("the lock file has no {KERNEL}"))?;
    let locked = packages[meta]["depends"][0].as_str().context("the kernel's meta package depends on nothing")?.to_owned();
    let kernel = named(packages, &locked).with_context(|| format!("the lock file has no {locked}"))?;
    let lists = place::repository().join("build/apt/state/lists");
    let stanza = newest_before(&lists, &locked)?;
    let name = field(&stanza, "Package")?;
    eprintln!("bench: {name} as the kernel of before");
    packages[meta]["depends"] = toml::Value::Array(vec![name.clone().into()]);
    let package = packages[kernel].as_table_mut().context("a package that is no table")?;
    package.insert("name".to_owned(), name.into());
    for (key, in_index) in [("version", "Version"), ("file", "Filename"), ("sha256", "SHA256")] {
        package.insert(key.to_owned(), field(&stanza, in_index)?.into());
    }
    package.insert("size".to_owned(), toml::Value::Integer(field(&stanza, "Size")?.parse()?));
    Ok(toml::to_string(&lock)?)
}

/// The stanza of the kernel package with the highest release below that of `locked` (`linux-image-6.12.118+deb13-cloud-amd64`).
fn newest_before(lists: &Path, locked: &str) -> anyhow::Result<String> {
    let limit = release(locked).with_context(|| format!("no kernel release in {locked}"))?;
    let mut newest: Option<([u32; 3], String)> = None;
    let looking = || format!("looking for Debian's indices in {} (make image fetches them)", lists.display());
    for entry in fs::read_dir(lists).with_context(looking)? {
        let path = entry.with_context(looking)?.path();
        if !path.to_string_lossy().ends_with("_Packages") {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(looking)?;
        for stanza in text.split("\n\n") {
            let Some(name) = stanza.strip_prefix("Package: ").and_then(|rest| rest.lines().next()) else { continue };
            let Some(found) = release(name).filter(|found| *found < limit) else { continue };
            if newest.as_ref().is_none_or(|(newest, _)| *newest < found) {
                newest = Some((found, stanza.to_owned()));
            }
        }
    }
    Ok(newest.with_context(|| format!("Debian's indices have no kernel before {locked}"))?.1)
}

/// `[6, 12, 118]` of a cloud kernel's package.
fn release(package: &str) -> Option<[u32; 3]> {
    let version = package.strip_prefix("linux-image-")?.strip_suffix("+deb13-cloud-amd64")?;
    let numbers: Vec<u32> = version.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

fn field(stanza: &str, name: &str) -> anyhow::Result<String> {
    let found = stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Ok(found.with_context(|| format!("no {name} in Debian's index:\n{stanza}"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_ordered_by_number() {
        assert_eq!(release("linux-image-6.12.118+deb13-cloud-amd64"), Some([6, 12, 118]));
        assert_eq!(release("linux-image-6.12.115+deb13.1-cloud-amd64"), None);
        assert_eq!(release("linux-image-6.12.118+deb13-amd64"), None);
        let directory = tempfile::tempdir().unwrap();
        let stanza = |number: u32| format!("Package: linux-image-6.12.{number}+deb13-cloud-amd64\nVersion: 6.12.{number}-1");
        let index = [stanza(99), stanza(117), stanza(118), stanza(100)].join("\n\n");
        fs::write(directory.path().join("main_Packages"), index).unwrap();
        let found = newest_before(directory.path(), "linux-image-6.12.118+deb13-cloud-amd64").unwrap();
        assert_eq!(field(&found, "Version").unwrap(), "6.12.117-1");
    }

    #[test]
    fn the_function_that_changes_is_there() {
        let text = fs::read_to_string(place::repository().join(CHANGED_FILE)).unwrap();
        assert_eq!(text.matches(BEFORE).count(), 1);
    }
}
