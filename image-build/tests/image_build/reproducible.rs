//! The same input gives the same bytes, whoever builds where and when, without privileges.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::support;

#[test]
fn two_builds_give_the_same_bytes_and_need_no_privileges() {
    let binaries = support::binaries();
    let directory = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "elsewhere/second"].map(|name| directory.path().join(name));
    let key = directory.path().join("update.key");
    fs::write(&key, update::SigningKey::from_seed(&[7; 32]).unwrap().to_pem()).unwrap();
    let arguments = |out: &Path| {
        let mut arguments = support::image_arguments(binaries.path(), out);
        arguments.extend(["--update-key", &key.display().to_string(), "--update-level", "3"].map(str::to_owned));
        arguments
    };
    support::succeeded(&support::image_build().args(arguments(&first)).output().unwrap());

    // Other time zone, language and umask; root without any capability is an ordinary user who owns files.
    let mut command = support::cleared(Command::new("sh"));
    let strip = if rustix::process::getuid().is_root() { "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs" } else { "" };
    command.arg("-c").arg(format!("umask 077; exec {strip} \"$0\" \"$@\"")).arg(support::PROGRAM);
    command.env("TZ", "Asia/Kathmandu").env("LANG", "de_DE.UTF-8");
    support::succeeded(&command.args(arguments(&second)).output().unwrap());

    let update = concat!("corten-", env!("CARGO_PKG_VERSION"), "-bare.update");
    let expected = [
        "command-line",
        update,
        "corten.iso",
        "disk.qcow2",
        "disk.raw",
        "initramfs.pxe",
        "kernel",
        "manifest.json",
        "root-hash",
        "root.erofs",
        "root.verity",
        "sbom.spdx.json",
        "systemd-bootx64.efi",
        "uki.efi",
    ]
    .map(str::to_owned);
    assert_eq!(support::names(&first), expected);
    assert_eq!(support::names(&second), expected);
    for name in expected {
        assert_eq!(digest(&first.join(&name)), digest(&second.join(&name)), "{name} differs between two builds");
    }
    verity_accepts(&first);
    manifest_tells_the_truth(&first);
    update_file_holds_the_image(&first, update);
}

/// What the image trusts has signed what it would become.
fn update_file_holds_the_image(image: &Path, name: &str) {
    let file = update::UpdateFile::open(image.join(name)).unwrap();
    file.verify_all().unwrap();
    let root = fs::read(image.join("root.erofs")).unwrap();
    let trusted = update::SigningKey::from_seed(&[7; 32]).unwrap().public().to_string();
    // An uncompressed erofs holds a small file as it is.
    assert!(root.windows(trusted.len()).any(|window| window == trusted.as_bytes()), "the image does not trust its own key");
    let keys = update::TrustedKeys { threshold: 1, keys: vec![trusted.parse().unwrap()] };
    let manifest = file.manifest().verify(&keys, 0).unwrap();
    assert_eq!((manifest.profile.as_str(), manifest.architecture.as_str()), ("bare", "x86_64"));
    assert_eq!(manifest.root_hash.to_string(), fs::read_to_string(image.join("root-hash")).unwrap().trim());
    assert!(manifest.hash_tree.is_some(), "the tree that veritysetup made is not the one that machines make");
    for (part, content) in
        [(update::PartName::Root, "root.erofs"), (update::PartName::Verity, "root.verity"), (update::PartName::Uki, "uki.efi")]
    {
        let mut unpacked = Vec::new();
        file.copy_part(part, &mut unpacked).unwrap();
        assert!(unpacked == fs::read(image.join(content)).unwrap(), "{content}");
    }
}

/// The root hash that the UKI seals covers the root.
fn verity_accepts(image: &Path) {
    let hash = fs::read_to_string(image.join("root-hash")).unwrap();
    let mut command = Command::new("/usr/sbin/veritysetup");
    command.arg("verify").arg(image.join("root.erofs")).arg(image.join("root.verity")).arg(hash.trim());
    support::succeeded(&command.output().unwrap());
    let uki = fs::read(image.join("uki.efi")).unwrap();
    let argument = format!("corten.roothash={}", hash.trim());
    assert!(uki.windows(argument.len()).any(|window| window == argument.as_bytes()), "the UKI does not seal the root hash");
}

fn manifest_tells_the_truth(image: &Path) {
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(image.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["notices"], serde_json::json!([]));
    let files = manifest["files"].as_array().unwrap();
    assert!(!files.is_empty());
    for file in files {
        let path = image.join(file["name"].as_str().unwrap());
        assert_eq!(file["sha256"].as_str().unwrap(), digest(&path), "{}", path.display());
        assert_eq!(file["sizeBytes"].as_u64().unwrap(), fs::metadata(&path).unwrap().len());
    }
}

/// Windows of a mebibyte that are nothing but zeros are left out: a disk is gigabytes of them, and holes are not read.
fn digest(path: &Path) -> String {
    if path.extension().is_none_or(|extension| extension != "raw") {
        return hex::encode(Sha256::digest(fs::read(path).unwrap()));
    }
    const WINDOW: u64 = 1 << 20;
    let file = fs::File::open(path).unwrap();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; WINDOW as usize];
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        let start = data - data % WINDOW;
        file.read_exact_at(&mut buffer, start).unwrap();
        if buffer.iter().any(|byte| *byte != 0) {
            hash.update(start.to_le_bytes());
            hash.update(&buffer);
        }
        at = start + WINDOW;
    }
    hex::encode(hash.finalize())
}
