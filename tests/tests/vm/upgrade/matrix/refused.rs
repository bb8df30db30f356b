//! Updates that are not booted: the machine, or machinectl before it, says no, and nothing is changed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tests::images::Stream;
use tests::node::Up;
use update::SigningKey;

use super::super::swap::{HEALTH, last_record};
use super::Stage;

/// Name, how the update is made, what the answer says.
type Row = (&'static str, fn(&Stage) -> anyhow::Result<PathBuf>, &'static str);

/// Said by the machine about the manifest.
const QUICK: &[Row] = &[
    ("wrong signature", |stage| stage.signed_by("0.2.0", &SigningKey::generate()?, |parts, _| Ok(parts)), "signed by 0 of 1 trusted keys"),
    ("expired", |stage| with_header(stage, "0.2.0", |header| header.expires_at = Some(header.built_at + 1)), "the update expired at"),
    ("downgrade", |stage| with_header(stage, "0.0.9", |_| {}), "version: 0.0.9 is lower than 0.1.0, which runs"),
];

const ROWS: &[Row] = &[
    (
        "update for another profile",
        |stage| with_header(stage, "0.2.0", |header| header.profile = "worker".to_owned()),
        "profile: the update is for worker",
    ),
    (
        "minimum version",
        |stage| with_header(stage, "0.3.0", |header| header.minimum_version = update::Version::new(0, 2, 0)),
        "minimumVersion: 0.3.0 is for machines at 0.2.0 or higher",
    ),
    ("a part that does not fit", too_large, "part verity of this update needs"),
    ("a UKI that the boot partition has no room for", too_large_uki, "part uki of this update needs"),
    ("truncated file", |stage| stream(stage, Stream::cut_short), "the update file is cut short"),
    ("reordered chunks", |stage| stream(stage, Stream::reordered), "the records are out of order or damaged"),
    ("flipped chunks", |stage| stream(stage, Stream::with_flipped_chunks), "it was damaged or changed on its way"),
    ("UKI cut short", |stage| stage.of_parts("0.2.0", |parts, folder| parts.with_short_uki(8 << 20, folder)), "the UKI is cut short"),
];

/// Those that cost a second each.
pub fn quick_refusals(stage: &Stage) -> anyhow::Result<()> {
    all_refused(stage, QUICK)
}

fn all_refused(stage: &Stage, rows: &[Row]) -> anyhow::Result<()> {
    let (before, boot) = (stage.standing()?, stage.node.boot_id(&Up::Configured)?);
    ensure!(before.blessed && !before.other_is_tried, "{before:?}");
    for (name, make, says) in rows {
        println!("  {name}");
        let file = make(stage).with_context(|| (*name).to_owned())?;
        stage.refused(&file, &[], says).with_context(|| (*name).to_owned())?;
        let now = stage.standing()?;
        ensure!(now == before, "{name}: {before:?} became {now:?}");
        ensure!(stage.node.boot_id(&Up::Configured)? == boot, "{name}: the machine booted anew");
    }
    Ok(())
}

/// A client that dies in the middle of the upload takes nothing with it: the same command goes on with the same record.
fn client_vanishes(stage: &Stage) -> anyhow::Result<()> {
    println!("  a client that vanishes");
    let before = stage.standing()?;
    let file = stage.of_parts("0.2.0", |parts, folder| parts.with_new_bytes(48 << 20, folder))?;
    let arguments = ["upgrade", file.to_str().context("a path in UTF-8")?, "--yes", "--stage"];
    let mut client = stage.node.command(&Up::Configured, &arguments)?.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let lines = BufReader::new(client.stderr.take().context("standard error")?).lines();
    let told = lines.map_while(Result::ok).find(|line| line.contains(" to send"));
    client.kill()?;
    client.wait()?;
    println!("    {}", told.context("the client ended before it sent a chunk")?.trim());
    let begun = last_record(&stage.node)?["status"].clone();
    ensure!(begun["phase"] == "writing", "after the client vanished: {begun}");
    let now = stage.standing()?;
    ensure!(now == before, "{before:?} became {now:?}");

    stage.node.ask(&Up::Configured, &arguments)?;
    let ended = last_record(&stage.node)?["status"].clone();
    ensure!(ended["phase"] == "ready" && ended["number"] == begun["number"], "{begun} became {ended}");
    let now = stage.standing()?;
    ensure!(now.other_is_tried && super::Standing { other_is_tried: false, ..now.clone() } == before, "{before:?} became {now:?}");
    Ok(())
}

fn with_header(stage: &Stage, version: &str, change: fn(&mut update::Header)) -> anyhow::Result<PathBuf> {
    stage.of_parts(version, |mut parts, _| {
        change(&mut parts.header);
        Ok(parts)
    })
}

/// A verity tree of zeros, a byte longer than its partition.
fn too_large(stage: &Stage) -> anyhow::Result<PathBuf> {
    stage.of_parts("0.2.0", |mut parts, folder| {
        parts.verity = folder.join("root.verity");
        File::create(&parts.verity)?.set_len(machine::disk::Slot::A.verity().size_bytes() + 1)?;
        Ok(parts)
    })
}

/// As large as the whole boot partition, which has the running image's UKI in it already.
fn too_large_uki(stage: &Stage) -> anyhow::Result<PathBuf> {
    stage.of_parts("0.2.0", |parts, folder| {
        let parts = parts.with_short_uki(8 << 20, folder)?;
        File::options().write(true).open(&parts.uki)?.set_len(machine::disk::Partition::Esp.size_bytes())?;
        Ok(parts)
    })
}

/// A sound file with something to send, and then a fault in its bytes.
fn stream(stage: &Stage, fault: fn(Stream) -> Stream) -> anyhow::Result<PathBuf> {
    let sound = stage.of_parts("0.2.0", |parts, folder| parts.with_new_bytes(1 << 20, folder))?;
    let damaged = sound.with_extension("damaged");
    fault(Stream::of(&sound)?).write(&damaged)?;
    Ok(damaged)
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn what_is_not_taken_changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::new(HEALTH)?;
    all_refused(&stage, &[QUICK, ROWS].concat())?;
    client_vanishes(&stage)
}
