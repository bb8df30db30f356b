//! Bad input ends in one clear error and leaves no half image behind.

use std::fs;
use std::process::Command;

use crate::support;

#[test]
fn an_unknown_package_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let profiles = directory.path().join("profiles");
    fs::create_dir_all(profiles.join("parts")).unwrap();
    fs::copy(support::workspace().join("configs/profiles/parts/base.toml"), profiles.join("parts/base.toml")).unwrap();
    let text = fs::read_to_string(support::profile()).unwrap() + "[[package]]\nname = \"no-such-package\"\nfiles = [\"/usr/bin/x\"]\n";
    fs::write(profiles.join("bare.toml"), text).unwrap();
    let lock = directory.path().join("packages.lock");
    let mut command = support::image_build();
    command.args(["-q", "lock", "--profiles"]).arg(&profiles).arg("--lock").arg(&lock).arg("--apt").arg(support::cache());
    let error = support::refusal(&command.output().unwrap());
    assert_eq!(
        error,
        "image-build: unknown package no-such-package: Debian trixie has none of that name; correct [[package]] in configs/profiles\n"
    );
    assert!(!lock.exists());
}

#[test]
fn a_checksum_that_differs_from_the_signed_index_is_shown() {
    let (binaries, directory) = (support::binaries(), tempfile::tempdir().unwrap());
    let wrong = "5".repeat(64);
    let lock = support::changed_lock(directory.path(), |package| {
        if package["name"].as_str() == Some("netbase") {
            package["sha256"] = wrong.clone().into();
        }
    });
    let out = directory.path().join("image");
    let mut command = support::image_build();
    command.args(support::image_arguments(binaries.path(), &out)).arg("--lock").arg(lock);
    let error = support::refusal(&command.output().unwrap());
    assert!(
        error.contains("netbase") && error.contains("checksum differs") && error.contains(&wrong) && error.contains("signed index"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(support::names(directory.path()), ["packages.lock"]);
}

#[test]
fn a_program_that_is_not_static_is_refused() {
    let (binaries, directory) = (support::binaries(), tempfile::tempdir().unwrap());
    fs::copy(support::PROGRAM, binaries.path().join("nodeagent")).unwrap();
    let out = directory.path().join("image");
    let error = support::refusal(&support::image_build().args(support::image_arguments(binaries.path(), &out)).output().unwrap());
    assert!(error.contains("/usr/bin/nodeagent needs ") && error.contains("linked statically"), "{error}");
    assert!(support::names(directory.path()).is_empty());
}

#[test]
fn what_was_not_built_is_named_before_anything_is_fetched() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("image");
    let mut command = support::image_build();
    command.args(["image", "--apt", "/nonexistent/apt", "--profile"]).arg(support::profile());
    command.arg("--binaries").arg(directory.path()).arg("--out").arg(&out);
    let error = support::refusal(&command.output().unwrap());
    assert!(error.contains("not built yet") && error.contains("init") && error.contains("make build"), "{error}");
}

/// On a file system of 60 MiB in a mount namespace of its own.
#[test]
fn a_full_disk_is_said_plainly_and_leaves_the_old_image() {
    let (binaries, directory) = (support::binaries(), tempfile::tempdir().unwrap());
    let small = directory.path().join("small");
    fs::create_dir(&small).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=60m tmpfs {0} && mkdir {0}/image && touch {0}/image/old && \"$0\" \"$@\"; code=$?; ls -A {0} {0}/image; exit $code",
        small.display()
    );
    let mut command = support::cleared(Command::new("unshare"));
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, support::PROGRAM]);
    let output = command.args(support::image_arguments(binaries.path(), &small.join("image"))).output().unwrap();
    let error = support::refusal(&output);
    assert!(error.starts_with("image-build: the disk is full: free some space and repeat; nothing was left behind: "), "{error}");
    let left = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(left, format!("{0}:\nimage\n\n{0}/image:\nold\n", small.display()));
}
