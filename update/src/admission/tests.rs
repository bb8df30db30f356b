use super::*;
use crate::sample::manifest;

fn running(version: &str) -> Running {
    let root_hash = Some(Digest::of(b"what runs"));
    Running { version: version.parse().unwrap(), profile: "worker".into(), architecture: "x86_64".into(), root_hash, config_version: None }
}

/// The manifest is of version 1.4.0 and wants 1.2.0.
fn answer(running: &Running, allow_downgrade: bool) -> String {
    admissible(&manifest(), running, &Policy { allow_downgrade }).map_or_else(|refused| refused.to_string(), |()| "taken".into())
}

#[test]
fn versions_go_up_unless_told() {
    let downgrade = "version: 1.4.0 is lower than 1.5.0, which runs: allow the downgrade (--allow-downgrade) if it is meant";
    let minimum = |running: &str| {
        format!("minimumVersion: 1.4.0 is for machines at 1.2.0 or higher; this one runs {running}: upgrade it to 1.2.0 first")
    };
    for (version, allow_downgrade, expected) in [
        ("1.3.9", false, "taken"),
        ("1.2.0", false, "taken"),
        ("1.4.0-rc.1", false, "taken"),
        ("1.4.0", false, "taken"),
        ("1.4.0+rebuild.7", false, "taken"),
        ("1.5.0", false, downgrade),
        ("1.5.0", true, "taken"),
        ("1.1.9", false, &minimum("1.1.9")),
        ("1.1.9", true, &minimum("1.1.9")),
        ("1.2.0-rc.1", false, &minimum("1.2.0-rc.1")),
    ] {
        assert_eq!(answer(&running(version), allow_downgrade), expected, "{version}, downgrade allowed: {allow_downgrade}");
    }
}

#[test]
fn an_update_is_for_one_profile_and_one_architecture() {
    let other = Running { profile: "controlplane".into(), ..running("1.3.0") };
    assert_eq!(
        answer(&other, true),
        "profile: the update is for worker; this machine runs controlplane: take the update file of that profile"
    );
    let other = Running { architecture: "aarch64".into(), ..running("1.3.0") };
    assert_eq!(answer(&other, true), "architecture: the update is for x86_64; this machine is aarch64");
}

#[test]
fn the_image_that_runs_is_not_installed_again() {
    let root_hash = Some(manifest().root_hash);
    assert_eq!(answer(&Running { root_hash, ..running("1.4.0") }, true), "version: 1.4.0 with this very root runs already");
    assert_eq!(answer(&Running { root_hash: None, ..running("1.4.0") }, false), "taken", "a machine that runs from memory");
}

#[test]
fn the_image_must_read_the_config_in_force() {
    let with = |reads: &[&str], config: Option<&str>| {
        let manifest = Manifest { config_versions: reads.iter().map(|version| (*version).to_owned()).collect(), ..manifest() };
        let running = Running { config_version: config.map(str::to_owned), ..running("1.3.0") };
        admissible(&manifest, &running, &Policy::default()).map_or_else(|refused| refused.to_string(), |()| "taken".into())
    };
    for (reads, config, taken) in [
        (&["corten.dev/v1"][..], Some("corten.dev/v1"), true),
        (&["corten.dev/v1", "corten.dev/v2"], Some("corten.dev/v1"), true),
        (&["corten.dev/v1"], None, true),
        (&[], Some("corten.dev/v2"), true),
        (&["corten.dev/v1"], Some("corten.dev/v2"), false),
    ] {
        assert_eq!(with(reads, config) == "taken", taken, "{reads:?} {config:?}");
    }
    assert_eq!(
        with(&["corten.dev/v1", "corten.dev/v2"], Some("corten.dev/v3")),
        "configVersions: 1.4.0 reads machine configs of corten.dev/v1 and corten.dev/v2; this machine has one of corten.dev/v3: \
         apply it in a version that 1.4.0 reads first"
    );
}
