//! Where packages come from: the lock, the mirror, an archive mirror, or the newest signed versions with a notice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{mirror, support};

/// Names and times of change of all that belongs to the host's package management.
fn host() -> BTreeMap<String, (i64, i64)> {
    let mut seen = BTreeMap::new();
    let mut queue = ["/etc/apt", "/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg"].map(Path::new).map(Path::to_owned).to_vec();
    while let Some(path) = queue.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        seen.insert(path.display().to_string(), (metadata.mtime(), metadata.mtime_nsec()));
        if metadata.is_dir() {
            queue.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    seen
}

#[test]
fn a_lock_names_no_mirror_and_its_making_leaves_the_host_alone() {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("packages.lock");
    let before = host();
    let mut command = support::image_build();
    command.args(["-q", "lock", "--lock"]).arg(&lock).arg("--apt").arg(directory.path().join("apt"));
    support::succeeded(&command.output().unwrap());
    assert_eq!(host(), before);
    let text = fs::read_to_string(&lock).unwrap();
    assert!(!text.contains("://"), "{text}");
    let parsed: toml::Table = toml::from_str(&text).unwrap();
    let packages = parsed["package"].as_array().unwrap();
    let kernel = packages.iter().find(|p| p["name"].as_str().is_some_and(|name| name.starts_with("linux-image-6."))).unwrap();
    assert_eq!(kernel["sha256"].as_str().unwrap().len(), 64);
}

/// A version that no mirror has: `--locked` refuses it, an archive mirror delivers it, otherwise the newest signed one is taken.
#[test]
fn a_dropped_version_is_refused_delivered_or_replaced() {
    let (binaries, directory) = (support::binaries(), tempfile::tempdir().unwrap());
    let out = directory.path().join("image");
    let build = |lock: &Path| {
        let mut command = support::image_build();
        command.args(support::image_arguments(binaries.path(), &out)).arg("--lock").arg(lock);
        command
    };
    // Its name is new each time: what the archive mirror delivers stays in the cache.
    let package = package_named_netbase(directory.path());
    let digest = hex::encode(Sha256::digest(&package));
    let lock = support::changed_lock(directory.path(), |entry| {
        if entry["name"].as_str() == Some("netbase") {
            entry["version"] = "0.1".into();
            entry["sha256"] = digest.clone().into();
            entry["file"] = "pool/main/n/netbase/netbase_0.1_all.deb".into();
        }
    });

    let error = support::refusal(&build(&lock).arg("--locked").output().unwrap());
    assert!(error.contains("--locked forbids") && error.contains("netbase 0.1"), "{error}");
    assert!(!out.exists());

    let said = support::succeeded(&build(&lock).output().unwrap());
    assert!(said.contains("notice: no longer on the mirror: netbase 0.1"), "{said}");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let notices = manifest["notices"].to_string();
    assert!(notices.contains("netbase 0.1; taking the newest signed versions") && notices.contains("instead of 0.1"), "{notices}");

    // What comes after the packages is seen above: this build ends at a program that is not static.
    fs::copy(support::PROGRAM, binaries.path().join("nodeagent")).unwrap();
    let archive = mirror::serve("netbase_0.1_all.deb", package);
    let mut command = build(&lock);
    command.args(["--locked", "--debian-archive-mirror", &format!("http://127.0.0.1:9/nothing,{archive}")]);
    let error = support::refusal(&command.env("no_proxy", "127.0.0.1").output().unwrap());
    assert!(error.contains("linked statically") && !error.contains("notice"), "{error}");
    let delivered = support::cache().join(format!("archives/{digest}.deb"));
    assert_eq!(hex::encode(Sha256::digest(fs::read(&delivered).unwrap())), digest);
    fs::remove_file(delivered).unwrap();
}

/// A package of our own making with the two files that the profile takes.
fn package_named_netbase(directory: &Path) -> Vec<u8> {
    let tree = directory.join("netbase");
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::create_dir_all(tree.join("usr/share/doc/netbase")).unwrap();
    let control = "Package: netbase\nVersion: 0.1\nArchitecture: all\nMaintainer: Tests <tests@example.org>\nDescription: stand-in\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::write(tree.join("usr/share/doc/netbase/copyright"), "License: GPL-2\n").unwrap();
    for name in ["protocols", "services"] {
        // Something that no other run has had: the file must come from the archive mirror, not from the cache.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        fs::write(tree.join("etc").join(name), format!("# {now:?}\n")).unwrap();
    }
    let package = directory.join("netbase.deb");
    let mut command = std::process::Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]).arg(&tree).arg(&package);
    support::succeeded(&command.output().unwrap());
    fs::read(package).unwrap()
}
