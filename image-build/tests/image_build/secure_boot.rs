//! Images whose boot loader and UKI are signed: here those for servers, which have another kernel.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support;

fn accepts(certificate: &Path, program: &Path) -> bool {
    Command::new("sbverify").arg("--cert").arg(certificate).arg(program).output().unwrap().status.success()
}

#[test]
fn what_the_firmware_starts_is_signed_and_the_medium_enrols_the_keys() {
    let (binaries, directory) = (support::binaries(), tempfile::tempdir().unwrap());
    let (keys, out) = (directory.path().join("keys"), directory.path().join("image"));
    support::succeeded(&support::image_build().args(["keys", "new", "--secure-boot", "--out"]).arg(&keys).output().unwrap());
    let folder = keys.join("secure-boot");
    let mut command = support::image_build();
    command.args(support::image_arguments(binaries.path(), &out)).args(["--platform", "metal"]);
    command.arg("--secure-boot-key").arg(folder.join("db.key")).arg("--secure-boot-certificate").arg(folder.join("db.crt"));
    let said = support::succeeded(&command.arg("--secure-boot-enroll").arg(&folder).output().unwrap());
    assert!(said.contains("notice: no --update-key"), "{said}");
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["image"]["profile"], &manifest["platform"]), (&"bare-metal".into(), &"metal".into()));
    assert!(!manifest["kernelRelease"].as_str().unwrap().contains("cloud"), "{}", manifest["kernelRelease"]);
    assert!(!support::names(&out).iter().any(|name| name.ends_with(".update") || name == "disk.qcow2"), "{:?}", support::names(&out));
    for name in ["uki.efi", "systemd-bootx64.efi"] {
        assert!(accepts(&folder.join("db.crt"), &out.join(name)), "{name}");
        assert!(!accepts(&folder.join("KEK.crt"), &out.join(name)), "{name}: any certificate is accepted");
    }
    // The same bytes are on the disk and on the medium: whole, in one run of clusters of the ESP.
    let medium = fs::read(out.join("corten.iso")).unwrap();
    for name in ["PK.auth", "KEK.auth", "db.auth"] {
        assert!(holds(&medium, &fs::read(folder.join(name)).unwrap()), "{name} is not on the medium");
    }
    for name in ["uki.efi", "systemd-bootx64.efi"] {
        let program = fs::read(out.join(name)).unwrap();
        assert_eq!(count(&medium, &program), 2, "{name}: once in the ESP, once for the installer");
    }
}

#[test]
fn a_key_without_its_certificate_is_refused() {
    let (binaries, directory) = (support::binaries(), tempfile::tempdir().unwrap());
    let out = directory.path().join("image");
    for (arguments, expected) in [
        (["--secure-boot-key", "/k"], "--secure-boot-certificate"),
        (["--secure-boot-certificate", "/c"], "nothing signs; give --secure-boot-key"),
    ] {
        let mut command = support::image_build();
        command.args(support::image_arguments(binaries.path(), &out)).args(arguments);
        let error = support::refusal(&command.output().unwrap());
        assert!(error.contains(expected), "{error}");
    }
}

/// Files begin at clusters of 512 bytes on the ESP and at blocks of 2048 in ISO 9660.
fn count(medium: &[u8], content: &[u8]) -> usize {
    (0..medium.len()).step_by(512).filter(|at| medium[*at..].starts_with(content)).count()
}

fn holds(medium: &[u8], content: &[u8]) -> bool {
    count(medium, content) > 0
}
