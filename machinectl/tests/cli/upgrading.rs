//! Images are swapped: what is sent, what is waited for, and what the user is told when it does not come to a good end.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use update::{Digest, Header, PartName, SigningKey, UpdateFile, Version};

use crate::fake::{Break, Fake, Fate, Kubernetes};
use crate::trust;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_seed(&[7; 32]).expect("a key"));

/// A machine that trusts [`KEY`], and nothing of whose Kubernetes is asked for.
fn machine() -> Fake {
    let fake = Fake::member();
    fake.tell(|story| story.trusted = vec![KEY.public()]);
    fake
}

fn update_file(fake: &Fake, version: &str, key: &SigningKey) -> PathBuf {
    update_for(fake, version, "controlplane", Version::new(1, 37, 1), key)
}

/// Makes an update file in the user's home; its content does not compress.
fn update_for(fake: &Fake, version: &str, profile: &str, kubernetes: Version, key: &SigningKey) -> PathBuf {
    update_of(fake, version, profile, kubernetes, key, |_| {})
}

/// The same of other content.
fn update_of(fake: &Fake, version: &str, profile: &str, kubernetes: Version, key: &SigningKey, change: impl Fn(&mut [u8])) -> PathBuf {
    let noise = |bytes: usize| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..bytes).map(|_| next()).collect::<Vec<u8>>()
    };
    let mut whole = noise(2_000_000);
    change(&mut whole);
    let root = fake.write("root", &whole[..1_500_000]);
    let verity = fake.write("verity", &whole[1_500_000..1_600_000]);
    let uki = fake.write("uki", &whole[1_600_000..]);
    let version: Version = version.parse().expect("a version");
    let header = Header {
        version: version.clone(),
        profile: profile.to_owned(),
        architecture: "x86_64".to_owned(),
        minimum_version: Version::new(0, 0, 1),
        kubernetes: Some(kubernetes),
        kernel_release: "6.12.1".to_owned(),
        built_at: 1_790_000_000,
        config_versions: Vec::new(),
        expires_at: None,
        release_notes: "Mends the thing.\nAnd another.".to_owned(),
        root_hash: Digest::of(version.to_string().as_bytes()),
        slot_bytes: 1 << 30,
    };
    let parts = [(PartName::Root, root.as_path()), (PartName::Verity, verity.as_path()), (PartName::Uki, uki.as_path())];
    let path = fake.home().join(format!("corten-{version}-{profile}.update"));
    let file = std::fs::File::create(&path).expect("the update file");
    update::write(file, header, &parts, std::slice::from_ref(key), 1, |_| {}).expect("an update");
    path
}

/// Upgrades without a question and without draining.
fn upgrade(fake: &Fake, version: &str, more: &[&str]) -> crate::terminal::Ran {
    let file = update_file(fake, version, &KEY);
    fake.run(&[&["upgrade", file.to_str().expect("text"), "--yes"], more].concat())
}

fn chunks(fake: &Fake, version: &str) -> usize {
    let path = update_file(fake, version, &KEY);
    UpdateFile::open(path).expect("an update").manifest().peek().distinct_chunks().len()
}

#[test]
fn an_upgrade_is_sent_started_and_waited_for() {
    let fake = machine();
    let node = fake.address;
    let ran = upgrade(&fake, "0.2.0", &[]);
    let (out, err) = (ran.out.clone(), ran.err.clone());
    ran.printed();
    let expected = format!(
        "Corten 0.2.0 (controlplane, x86_64), kernel 6.12.1, Kubernetes v1.37.1, built 2026-09-21T14:13:20Z\n  \
           Mends the thing.\n  And another.\n\n\
         {node} (cp-1, control plane): 0.1.0 -> 0.2.0:\n  \
           send 1.91 MiB of 1.91 MiB in chunks that the machine lacks\n  \
           the only control plane: the Kubernetes API is away until it is back\n  \
           write slot b\n  reboot into it\n  wait until it is proven good or falls back, at most 30m\n\
         {node}: runs 0.2.0 (slot b), proven good\n"
    );
    assert_eq!(out, expected);
    for told in ["all chunks are there", "verifying: reads slot b back", "is being proven", "proven good"] {
        assert!(err.contains(told), "{err}");
    }
    let asked = [
        "offer dry_run=true allow_downgrade=false retry_failed=false".to_owned(),
        "offer dry_run=false allow_downgrade=false retry_failed=false".to_owned(),
        format!("upload of {} chunks", chunks(&fake, "0.2.0")),
        "start stage=false REBOOT_MODE_GRACEFUL".to_owned(),
    ];
    assert_eq!(fake.asked.lines(), asked);
    // Again: it runs already.
    let again = upgrade(&fake, "0.2.0", &["-q"]).printed();
    assert!(again.ends_with(&format!("{node}: runs 0.2.0 already\n")), "{again}");
    assert_eq!(fake.asked.lines().len(), 5);
    let shown = fake.run(&["get", "upgrades"]).printed();
    assert!(shown.starts_with("NAME   TO      PHASE") && shown.contains("2      0.2.0   blessed"), "{shown}");
}

/// A machine that runs 0.1.0, whose update file is this one; and one of 0.2.0, in which a byte is changed here and there.
fn alike(fake: &Fake) -> (PathBuf, PathBuf) {
    let old = update_file(fake, "0.1.0", &KEY);
    fake.tell(|story| story.running = Some(UpdateFile::open(&old).expect("an update")));
    let change = |bytes: &mut [u8]| (0..bytes.len()).step_by(9_000).for_each(|at| bytes[at] ^= 0x55);
    (old, update_of(fake, "0.2.0", "controlplane", Version::new(1, 37, 1), &KEY, change))
}

/// Chunks of 0.2.0 that are not in 0.1.0, of one part or of all.
fn changed(old: &Path, new: &Path, part: Option<PartName>) -> usize {
    let (old, new) = (UpdateFile::open(old).expect("an update"), UpdateFile::open(new).expect("an update"));
    let known = old.manifest().peek().distinct_chunks();
    let parts = new.manifest().peek().parts.iter().filter(|found| part.is_none_or(|part| part == found.name));
    parts.flat_map(|part| &part.chunks).filter(|chunk| !known.contains(chunk)).count()
}

#[test]
fn what_is_like_the_running_image_is_sent_as_patches() {
    let fake = machine();
    let (old, new) = alike(&fake);
    let (old, new) = (old.as_path(), new.as_path());
    let count = changed(old, new, None);
    // It lies beside the new one, under its usual name.
    let ran = fake.run(&["upgrade", new.to_str().expect("text"), "--yes"]);
    let plan = ran.out.lines().find(|line| line.starts_with("  send ")).expect("a line").to_owned();
    assert!(plan.contains(" KiB as patches against 0.1.0: the machine lacks 1.9"), "{plan}");
    ran.printed();
    assert!(fake.asked.lines().contains(&format!("upload of {count} chunks, {count} as patches")), "{:?}", fake.asked.lines());

    // Elsewhere, it has to be named.
    let fake = machine();
    let (old, new) = alike(&fake);
    let elsewhere = fake.home().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    let (from, new) = (elsewhere.join("any.name"), new.to_str().expect("text").to_owned());
    std::fs::rename(&old, &from).expect("rename");
    let plan = fake.run(&["upgrade", &new, "--dry-run"]).printed();
    assert!(plan.contains(" in chunks that the machine lacks\n"), "{plan}");
    let from = from.to_str().expect("text");
    let plan = fake.run(&["upgrade", &new, "--dry-run", "--from", from]).printed();
    assert!(plan.contains(" as patches against 0.1.0: "), "{plan}");
    assert!(fake.run(&["upgrade", &new, "--dry-run", "--from", "nothing"]).complained(1).starts_with("error: nothing: "));
}

#[test]
fn why_there_are_no_patches_is_told() {
    let fake = machine();
    let (old, new) = alike(&fake);
    let path = new.to_str().expect("text");
    let other = update_file(&fake, "0.0.9", &KEY);
    let plan = || fake.run(&["upgrade", path, "--dry-run", "--from", other.to_str().expect("text")]).printed();
    assert!(plan().contains(" as patches against 0.1.0: "), "the one beside it does");
    std::fs::rename(&other, &old).expect("rename");
    let plan = fake.run(&["upgrade", path, "--dry-run"]).printed();
    let told = format!("lacks; no patches: {} is not the image that it runs, but one of the same version\n", old.display());
    assert!(plan.contains(&told), "{plan}");
    std::fs::write(&old, "CORTENUP").expect("write");
    let plan = fake.run(&["upgrade", path, "--dry-run"]).printed();
    assert!(plan.contains("the update file is cut short in its head"), "{plan}");
    std::fs::remove_file(&old).expect("remove");
    let plan = fake.run(&["upgrade", path, "--dry-run", "--from", path]).printed();
    assert!(plan.contains("lacks; no patches: --from names no file of the image that it runs: 0.1.0 with root hash "), "{plan}");
    // A machine of before there were patches.
    fake.tell(|story| story.running = None);
    let plan = fake.run(&["upgrade", path, "--dry-run", "--from", path]).printed();
    assert!(plan.contains("send 1.91 MiB of 1.91 MiB in chunks that the machine lacks\n"), "{plan}");
}

#[test]
fn a_part_that_is_another_one_is_sent_whole() {
    let fake = machine();
    let (old, new) = alike(&fake);
    // The UKI, the last 400,000 bytes of the content, was signed anew.
    let resigned = |bytes: &mut [u8]| bytes[1_600_000..].iter_mut().for_each(|byte| *byte ^= 0xaa);
    let kept = fake.home().join("kept");
    std::fs::copy(&old, &kept).expect("copy");
    let really = update_of(&fake, "0.1.0", "controlplane", Version::new(1, 37, 1), &KEY, resigned);
    fake.tell(|story| story.really = Some(UpdateFile::open(really).expect("an update")));
    std::fs::rename(&kept, &old).expect("rename");
    let ran = fake.run(&["upgrade", new.to_str().expect("text"), "--yes"]);
    assert!(ran.err.contains("no patch of this uki; sending such chunks whole"), "{}", ran.err);
    ran.printed();
    let lines = fake.asked.lines();
    assert_eq!(lines.iter().filter(|line| *line == "no patch of this uki").count(), 1, "{lines:?}");
    let count = changed(&old, &new, Some(PartName::Uki));
    assert!(lines.contains(&format!("upload of {count} chunks")), "{lines:?}");
}

#[test]
fn after_an_upload_that_broke_off_only_what_is_missing_is_sent() {
    for (how, told) in [(Break::Cut, "127.0.0.1"), (Break::Stalled, "no chunk came for 60 seconds")] {
        let fake = machine();
        fake.tell(|story| story.breaks_after = Some((5, how)));
        let ran = upgrade(&fake, "0.2.0", &[]);
        let line = ran.err.lines().find(|line| line.contains("the upload broke off (")).expect("a line").to_owned();
        assert!(line.contains(told) && line.ends_with("going on where it was"), "{line}");
        ran.printed();
        // The fake machine refuses a chunk that it has.
        let lines = fake.asked.lines();
        let all = chunks(&fake, "0.2.0");
        assert!(all > 8, "{all}");
        assert_eq!(lines[2], format!("upload of 5 chunks, then {how:?}"));
        assert!(lines[3].starts_with("offer dry_run=false"), "{lines:?}");
        assert!(lines.contains(&format!("upload of {} chunks", all - 5)), "{lines:?}");
    }
}

#[test]
fn a_connection_that_breaks_at_the_reboot_is_no_reason_to_start_twice() {
    let fake = machine();
    fake.tell(|story| story.cut_at_start = true);
    assert!(upgrade(&fake, "0.2.0", &[]).printed().ends_with("runs 0.2.0 (slot b), proven good\n"));
    assert_eq!(fake.asked.lines().iter().filter(|line| line.starts_with("start")).count(), 1);
}

#[test]
fn what_the_machine_refuses_is_not_begun() {
    let fake = machine();
    let node = fake.address;
    let stranger = update_file(&fake, "0.2.0", &SigningKey::from_seed(&[8; 32]).expect("a key"));
    let error = fake.run(&["upgrade", stranger.to_str().expect("text"), "--yes"]).complained(1);
    assert!(error.starts_with(&format!("error: {node}: signed by 0 of 1 trusted keys that are needed")), "{error}");
    let error = upgrade(&fake, "0.0.5", &[]).complained(1);
    assert!(error.contains("0.0.5 is lower than 0.1.0") && error.contains("--allow-downgrade"), "{error}");
    assert!(fake.asked.lines().iter().all(|line| line.starts_with("offer dry_run=true")), "{:?}", fake.asked.lines());
    upgrade(&fake, "0.0.5", &["--allow-downgrade", "--retry-failed"]).printed();
    assert!(fake.asked.lines().contains(&"offer dry_run=false allow_downgrade=true retry_failed=true".to_owned()));

    std::fs::write(fake.home().join("cut"), b"CORTENUP\x01\0\0\0\xff").expect("write");
    assert!(fake.run(&["upgrade", "cut"]).complained(1).starts_with("error: cut: "));
    let error = upgrade(&fake, "0.2.0", &["--preserve=false"]).complained(2);
    assert!(error.contains("an upgrade never wipes EPHEMERAL") && error.contains("machinectl reset --wipe ephemeral"), "{error}");
}

#[test]
fn without_consent_there_is_only_a_plan() {
    let fake = machine();
    let file = update_file(&fake, "0.2.0", &KEY);
    let path = file.to_str().expect("text");
    let plan = fake.run(&["upgrade", path, "--dry-run"]).printed();
    assert!(plan.contains("write slot b"), "{plan}");
    let error = fake.run(&["upgrade", path, "--preserve"]).complained(2);
    assert!(error.contains("this needs a confirmation"), "{error}");
    assert_eq!(fake.asked.lines(), ["offer dry_run=true allow_downgrade=false retry_failed=false"; 2]);
}

#[test]
fn a_machine_that_falls_back_is_told_with_the_reason() {
    let fake = machine();
    let node = fake.address;
    fake.tell(|story| story.fate = Fate::FallsBack);
    let ran = upgrade(&fake, "0.2.0", &["-q"]);
    let error = ran.complained(1);
    assert_eq!(
        error,
        format!(
            "error: {node}: last lines of the log:\n    panic: no\n    exit status 1\n\
             {node}: 0.2.0 was not kept, the machine falls back to 0.1.0: check kubelet: kubelet ended with status 1; \
             see `machinectl get upgrades 2 -n {node} -o yaml`; this version is taken again only with --retry-failed\n"
        )
    );
}

#[test]
fn a_machine_that_is_not_proven_in_time_ends_the_wait() {
    let fake = machine();
    let node = fake.address;
    fake.tell(|story| story.fate = Fate::Open);
    let error = upgrade(&fake, "0.2.0", &["--wait", "7s", "-q"]).complained(124);
    let expected = format!("error: {node}: not proven good within 7s; last seen: the new image runs and is being proven");
    assert!(error.starts_with(&expected) && error.contains("--wait"), "{error}");
}

#[test]
fn what_is_not_waited_for_is_said() {
    let fake = machine();
    let node = fake.address;
    let out = upgrade(&fake, "0.2.0", &["--no-wait", "--reboot-mode", "fast"]).printed();
    assert!(out.ends_with(&format!("{node}: reboots into 0.2.0; see `machinectl get upgrades -n {node}`\n")), "{out}");
    assert_eq!(fake.asked.lines().last().expect("a call"), "start stage=false REBOOT_MODE_FAST");
    let fake = machine();
    let node = fake.address;
    let out = upgrade(&fake, "0.2.0", &["--stage"]).printed();
    assert!(out.ends_with(&format!("{node}: boots 0.2.0 at its next reboot: machinectl reboot -n {node}\n")), "{out}");
    assert_eq!(fake.asked.lines().last().expect("a call"), "start stage=true REBOOT_MODE_GRACEFUL");
    let fake = machine();
    upgrade(&fake, "0.2.0", &["--no-wait", "--without-snapshot"]).printed();
    assert_eq!(fake.asked.lines().last().expect("a call"), "start stage=false REBOOT_MODE_GRACEFUL without_snapshot");
}

#[test]
fn a_rollback_is_an_upgrade_without_a_file() {
    let fake = machine();
    let node = fake.address;
    let plan = fake.run(&["rollback", "--dry-run"]).printed();
    assert!(
        plan.contains(&format!("{node} (cp-1, control plane): 0.1.0 -> the other slot:\n")) && plan.contains("  boot 0.0.9 in slot b\n")
    );
    assert!(fake.run(&["rollback", "-y"]).printed().ends_with(&format!("{node}: runs 0.0.9 (slot b), proven good\n")));
    assert_eq!(
        fake.asked.lines()[1..],
        ["rollback of the image dry_run=true stage=false", "rollback of the image dry_run=false stage=false"]
    );
    fake.tell(|story| story.fate = Fate::FallsBack);
    let error = fake.run(&["rollback", "-y", "-q"]).complained(1);
    assert!(error.contains("the machine falls back to 0.0.9") && !error.contains("--retry-failed"), "{error}");
}

#[test]
fn a_rollback_skips_no_minor_version_of_kubernetes() {
    let fake = machine();
    fake.tell(|story| story.other_kubernetes = "v1.35.9");
    let error = fake.run(&["rollback", "-y"]).complained(1);
    assert!(error.contains("its API server (1.35) would be more than 1 minor version apart from one that runs (1.37)"), "{error}");
    // A machine of a release that does not know the versions of its slots.
    fake.tell(|story| story.other_kubernetes = "");
    fake.run(&["rollback", "-y"]).printed();
}

#[test]
fn an_image_on_trial_is_given_up_on_request() {
    let fake = machine();
    let node = fake.address;
    upgrade(&fake, "0.2.0", &["--no-wait"]).printed();
    fake.tell(|story| {
        story.fate = Fate::Open;
        story.boot();
    });
    let ran = fake.run(&["rollback", "-y"]);
    assert!(ran.err.contains("failed: the image on trial is given up"), "{}", ran.err);
    assert!(ran.printed().ends_with(&format!("{node}: runs 0.1.0 (slot a) again; 0.2.0 was given up\n")));
}

/// Three machines; the user's client config names them as control planes, in this order.
fn three() -> [Fake; 3] {
    let fakes = [machine(), machine(), machine()];
    let addresses = fakes.each_ref().map(|fake| fake.address.to_string());
    fakes[0].write_client_config(&trust::client_config(&addresses).to_yaml().expect("YAML"));
    fakes
}

fn nodes(fakes: &[&Fake]) -> String {
    fakes.iter().map(|fake| fake.address.to_string()).collect::<Vec<_>>().join(",")
}

fn has_started(fake: &Fake) -> bool {
    fake.asked.lines().iter().any(|line| line.starts_with("start"))
}

#[test]
fn control_planes_come_first_and_the_first_that_falls_back_ends_it() {
    let [first, second, worker] = three();
    worker.tell(|story| story.role = "worker");
    second.tell(|story| story.fate = Fate::FallsBack);
    let named = nodes(&[&worker, &first, &second]);
    let ran = upgrade(&first, "0.2.0", &["-n", &named, "--without-quorum"]);
    let done = format!("{}: runs 0.2.0 (slot b), proven good\n", first.address);
    assert!(ran.out.ends_with(&done), "{}", ran.out);
    let places = [&first, &second, &worker].map(|fake| ran.out.find(&format!("{} (cp-1", fake.address)).expect("a plan"));
    assert!(places.is_sorted(), "{}", ran.out);
    let error = ran.complained(3);
    assert!(error.contains(&format!("not upgraded: {}\n", worker.address)), "{error}");
    assert!(error.contains(&format!("{}: 0.2.0 was not kept", second.address)), "{error}");
    assert!(!has_started(&worker));

    let [first, second, _third] = three();
    first.tell(|story| story.fate = Fate::FallsBack);
    let error = upgrade(&first, "0.2.0", &["-n", &nodes(&[&first, &second]), "-q"]).complained(1);
    assert!(error.contains(&format!("not upgraded: {}\n", second.address)) && !has_started(&second), "{error}");
    let error = upgrade(&first, "0.2.0", &["-n", &nodes(&[&first, &second]), "--no-wait"]).complained(2);
    assert!(error.contains("each is waited for"), "{error}");
    let staged = upgrade(&first, "0.3.0", &["-n", &nodes(&[&first, &second]), "--stage", "-q"]).printed();
    assert_eq!(staged.matches("boots 0.3.0 at its next reboot").count(), 2, "{staged}");
}

#[test]
fn each_machine_takes_the_file_of_its_profile() {
    let [first, _second, worker] = three();
    worker.tell(|story| (story.role, story.profile) = ("worker", "worker"));
    let file = |profile: &str, kubernetes| {
        let path = update_for(&first, "0.2.0", profile, Version::new(1, kubernetes, 0), &KEY);
        path.to_str().expect("text").to_owned()
    };
    let named = nodes(&[&worker, &first]);
    let run =
        |controlplane: &str, worker: &str| first.run(&["upgrade", controlplane, worker, "-n", &named, "--yes", "--without-quorum", "-q"]);
    // The other control plane stays at 1.37, and no kubelet may be newer than it.
    let error = run(&file("controlplane", 38), &file("worker", 38)).complained(1);
    let expected = format!("error: {}: its kubelet (1.38) would be newer than an API server (1.37); upgrade", worker.address);
    assert!(error.starts_with(&expected), "{error}");
    let error = run(&file("controlplane", 39), &file("worker", 37)).complained(1);
    assert!(error.contains("its API server (1.39) would be more than 1 minor version apart from one that runs (1.37)"), "{error}");
    // Until the worker's own turn comes, its kubelet runs with the new API server.
    worker.tell(|story| story.kubernetes = "v1.34.2");
    let error = run(&file("controlplane", 38), &file("worker", 37)).complained(1);
    let expected = format!("its API server (1.38) would be more than 3 minor versions newer than the kubelet of {} (1.34)", worker.address);
    assert!(error.contains(&expected), "{error}");
    worker.tell(|story| story.kubernetes = "v1.35.2");
    assert!(!has_started(&first) && !has_started(&worker));
    let out = run(&file("controlplane", 38), &file("worker", 37)).printed();
    let done = |fake: &Fake| out.find(&format!("{}: runs 0.2.0 (slot b), proven good\n", fake.address)).expect("done");
    assert!(done(&first) < done(&worker), "{out}");

    let (controlplane, other) = (file("controlplane", 38), file("other", 38));
    let error = first.run(&["upgrade", &controlplane, &other, "-n", &nodes(&[&worker])]).complained(1);
    assert!(error.contains("the machine runs profile worker; the update files are for controlplane, other"), "{error}");
    let error = first.run(&["upgrade", &other, &other]).complained(2);
    assert!(error.contains("a second update file for profile other"), "{error}");
}

#[test]
fn one_that_refuses_keeps_all_as_they_are() {
    let [first, second, _third] = three();
    second.tell(|story| story.trusted.clear());
    let error = upgrade(&first, "0.2.0", &["-n", &nodes(&[&first, &second])]).complained(1);
    assert!(error.starts_with(&format!("error: {}: ", second.address)), "{error}");
    assert_eq!(first.asked.lines().len(), 1, "{:?}", first.asked.lines());
}

#[test]
fn a_control_plane_stays_while_etcd_needs_it() {
    let [first, second, third] = three();
    third.tell(|story| story.has_etcd = false);
    let node = nodes(&[&first]);
    let error = upgrade(&first, "0.2.0", &["-n", &node]).complained(1);
    assert!(error.contains("etcd would lose its quorum without it: 1 of 3 members remain, 2 are needed"), "{error}");
    assert!(error.contains(&format!("{}: etcd: etcd is starting", third.address)) && error.contains("--without-quorum"), "{error}");
    assert_eq!(first.asked.lines(), ["offer dry_run=true allow_downgrade=false retry_failed=false"]);
    // The sick one may go: it is not missed.
    let out = upgrade(&first, "0.2.0", &["-n", &nodes(&[&third])]).printed();
    assert!(out.contains("etcd keeps its quorum without it: 2 of 3 members"), "{out}");
    let out = upgrade(&first, "0.2.0", &["-n", &node, "--without-quorum"]).printed();
    assert!(out.contains("etcd loses its quorum: 1 of 3 members remain"), "{out}");
    assert!(!has_started(&second));
}

/// A machine with a node in a cluster.
fn in_cluster() -> (Fake, Kubernetes) {
    let (fake, kubernetes) = (machine(), Kubernetes::start());
    fake.tell(|story| {
        story.node = Some("cp-1".to_owned());
        story.kubeconfig = Some(kubernetes.kubeconfig());
    });
    kubernetes.tell(|cluster| cluster.pods = [("agent-1", 0), ("web-1", 0), ("web-2", 1)].map(|(name, n)| (name.to_owned(), n)).into());
    (fake, kubernetes)
}

#[test]
fn pods_are_evicted_first_and_let_back_afterwards() {
    let (fake, kubernetes) = in_cluster();
    let ran = upgrade(&fake, "0.2.0", &[]);
    assert!(ran.err.contains("2 pods were evicted from node cp-1") && ran.err.contains("node cp-1 takes pods again"), "{}", ran.err);
    assert!(ran.printed().contains("  keep new pods from node cp-1 and evict its pods, within 5m\n"));
    assert_eq!(kubernetes.asked(), ["cordon", "evict web-1", "evict web-2: refused", "evict web-2", "uncordon"]);

    let (fake, kubernetes) = in_cluster();
    assert!(!upgrade(&fake, "0.2.0", &["--no-drain"]).printed().contains("evict"));
    assert_eq!(kubernetes.asked(), [""; 0]);

    // They come back in the old image as well.
    let (fake, kubernetes) = in_cluster();
    fake.tell(|story| story.fate = Fate::FallsBack);
    upgrade(&fake, "0.2.0", &[]).complained(1);
    assert_eq!(kubernetes.asked().last().expect("a request"), "uncordon");
}

#[test]
fn pods_that_may_not_go_keep_the_machine() {
    let (fake, kubernetes) = in_cluster();
    kubernetes.tell(|cluster| cluster.pods = [("web-1".to_owned(), 99)].into());
    let error = upgrade(&fake, "0.2.0", &["--drain", "3s", "-q"]).complained(124);
    assert!(error.contains("pod shop/web-1: its budget needs 1 healthy pod"), "{error}");
    assert!(error.contains("node cp-1 was not drained within 3s; its machine goes on as it is"), "{error}");
    let asked = kubernetes.asked();
    let [first, refusals @ .., last] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((first.as_str(), last.as_str()), ("cordon", "uncordon"));
    assert!(!refusals.is_empty() && refusals.iter().all(|line| line == "evict web-1: refused"), "{asked:?}");
    assert!(!has_started(&fake));
}

#[test]
fn a_node_that_somebody_else_cordoned_stays_so() {
    let (fake, kubernetes) = in_cluster();
    kubernetes.tell(|cluster| cluster.unschedulable = true);
    upgrade(&fake, "0.2.0", &[]).printed();
    assert_eq!(kubernetes.asked(), ["evict web-1", "evict web-2: refused", "evict web-2"]);
}

#[test]
fn a_node_that_stays_cordoned_is_named() {
    let (fake, kubernetes) = in_cluster();
    fake.tell(|story| story.fate = Fate::Open);
    let error = upgrade(&fake, "0.2.0", &["--wait", "7s", "-q"]).complained(124);
    assert!(error.contains("node cp-1 is still kept from new pods; let them back with: kubectl uncordon cp-1"), "{error}");
    assert_eq!(kubernetes.asked().last().expect("a request"), "evict web-2");
}

#[test]
fn a_rolling_reboot_ends_with_the_first_that_does_not_come_back() {
    let [first, second, worker] = three();
    worker.tell(|story| story.role = "worker");
    let named = nodes(&[&worker, &first, &second]);
    let reboot = |more: &[&str]| first.run(&[&["reboot", "--rolling", "-n", &named, "--yes", "--no-drain", "-q"], more].concat());
    let error = reboot(&["--wait", "1h"]).complained(1);
    assert!(error.contains("etcd would lose its quorum"), "{error}");

    let error = reboot(&["--wait", "30s", "--force"]).complained(1);
    assert!(error.contains(&format!("not rebooted: {}, {}\n", second.address, worker.address)), "{error}");
    assert!(error.contains("1 of 2 checks pass"), "{error}");
    assert!(!second.asked.lines().contains(&"reboot dry_run=false".to_owned()));

    let out = reboot(&["--wait", "1h", "--force"]).printed();
    let places = [&first, &second, &worker].map(|fake| out.find(&format!("{}: has rebooted and is healthy", fake.address)).expect(&out));
    assert!(places.is_sorted(), "{out}");
}
