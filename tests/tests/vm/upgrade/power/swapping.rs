//! Cuts while an installed machine's image or config changes.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use testbed::nbd::NbdDisk;
use tests::node::Up;
use tests::program::Running;
use tests::until::{BETWEEN_LOOKS, until};

use super::super::swap::{last_record, running};
use super::cut::{Cut, During, PATIENCE};
use super::look::{no_corruption, sane};
use super::prepared::{BLESSING, BRIEF, Prepared, State, generation, kept, second_config};

/// The state that cuts begin from, for all tests of this process.
static PREPARED: Mutex<Option<Prepared>> = Mutex::new(None);

/// What came of it.
pub fn happens(cut: Cut) -> anyhow::Result<String> {
    let mut guard = PREPARED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut prepared = match guard.take() {
        Some(prepared) => prepared,
        None => Prepared::new()?,
    };
    let outcome = happens_to(cut, &mut prepared);
    prepared.node.kill();
    *guard = Some(prepared);
    outcome
}

fn happens_to(cut: Cut, prepared: &mut Prepared) -> anyhow::Result<String> {
    let disk = prepared.disk(match cut.during {
        During::Trial | During::Apply => State::Staged,
        During::Rollback => State::Blessed,
        During::Install | During::Upload | During::Start => State::Configured,
    })?;
    let began = Instant::now();
    let answered = interrupt(cut, prepared, &disk)?;
    cut.take_power(&disk, answered)?;
    prepared.node.boot(&disk)?;
    let up = prepared.node.up()?;
    ensure!(up == Up::Configured, "the config is lost");
    let found = look(cut, prepared, &disk, answered)?;
    let end = again(cut, prepared, &disk)?;
    Ok(format!("{found}; the command again: {end}; {} s", began.elapsed().as_secs()))
}

/// Whether the command had been answered when the power went, or what was waited for had come.
fn interrupt(cut: Cut, prepared: &mut Prepared, disk: &NbdDisk) -> anyhow::Result<bool> {
    let began = Instant::now();
    let file = prepared.update("0.2.0")?;
    let node = &mut prepared.node;
    if cut.during == During::Trial {
        disk.cut_at(cut.at);
        node.boot(disk)?;
        let mut done = false;
        while !disk.wait_cut(BETWEEN_LOOKS) && !done && began.elapsed() < PATIENCE {
            done = node.fingerprint()?.is_none() && kept(node, "b").is_ok();
        }
        node.kill();
        return Ok(done);
    }
    node.boot(disk)?;
    node.up()?;
    let config = second_config(node, BRIEF)?;
    let command = match cut.during {
        During::Rollback => vec!["rollback", "--yes", "--no-drain", "--wait", "5m"],
        During::Apply => vec!["apply", "-f", &config],
        _ => vec!["upgrade", &file, "--yes", "--no-drain", "--no-wait"],
    };
    if cut.during != During::Start {
        disk.cut_at(cut.at);
    }
    let mut command = Running::start(&mut node.command(&Up::Configured, &command)?)?;
    if cut.during == During::Start {
        let written = || last_record(node).is_ok_and(|record| record["status"]["phase"] != "writing");
        while !command.is_over()? && !written() && began.elapsed() < PATIENCE {}
        disk.cut_at(cut.at);
    }
    while !disk.wait_cut(BETWEEN_LOOKS) && !command.is_over()? && began.elapsed() < PATIENCE {}
    // Asked before the machine goes: an answer that comes later was none to its user.
    let answered = command.is_over()?;
    node.kill();
    // A command that lost its machine would wait for it, as users want it to; nobody waits here.
    if answered {
        command.printed().context("the command failed before the cut")?;
    }
    Ok(answered)
}

/// What must be true of a machine after any cut; what it was found to run, in words.
fn look(cut: Cut, prepared: &Prepared, disk: &NbdDisk, answered: bool) -> anyhow::Result<String> {
    let node = &prepared.node;
    let (version, slot) = running(node)?;
    ensure!([("0.1.0", "a"), ("0.2.0", "b")].contains(&(version.as_str(), slot.as_str())), "{version} runs from slot {slot}");
    let generation = generation(node)?;
    let belongs = match (cut.during, version.as_str()) {
        (During::Apply | During::Rollback, "0.1.0") => vec![1],
        (During::Rollback, _) => vec![2],
        (During::Apply, _) if answered => vec![2],
        (During::Apply, _) => vec![1, 2],
        (During::Install | During::Upload | During::Start | During::Trial, _) => vec![1],
    };
    ensure!(belongs.contains(&generation), "{version} runs with config {generation}, not one of {belongs:?}");
    sane(disk, &prepared.slots())?;
    no_corruption(node)?;
    let record = last_record(node).map_or_else(|_| "no record".to_owned(), |record| format!("record: {}", record["status"]["phase"]));
    Ok(format!("{version} with config {generation}, {record}"))
}

/// Repeats what was interrupted. Whether a whole new image proves good again, or one only waits for the next boot, is the seed's to say: the
/// former takes as long as all the rest.
fn again(cut: Cut, prepared: &Prepared, disk: &NbdDisk) -> anyhow::Result<String> {
    let node = &prepared.node;
    let (version, slot) = running(node)?;
    let end = if cut.during == During::Rollback { ("0.1.0", "a") } else { ("0.2.0", "b") };
    let failed = last_record(node).is_ok_and(|record| record["status"]["phase"] == "failed");
    let file = &prepared.update("0.2.0")?;
    let runs = (version.as_str(), slot.as_str()) == end;
    let whole = runs || cut.during == During::Apply || crate::seeds::draw(cut.seed).is_multiple_of(4);
    if !runs {
        let mut command = match (cut.during, failed) {
            (During::Rollback, _) => vec!["rollback", "--yes", "--no-drain"],
            (_, false) => vec!["upgrade", file, "--yes", "--no-drain"],
            (_, true) => vec!["upgrade", file, "--yes", "--no-drain", "--retry-failed"],
        };
        command.extend(if whole { &["--wait", "8m"][..] } else { &["--stage"] });
        node.ask(&Up::Configured, &command)?;
    }
    if whole {
        until("an image that is kept", BLESSING, || kept(node, end.1))?;
        ensure!(running(node)? == (end.0.to_owned(), end.1.to_owned()), "{:?} runs", running(node)?);
    } else {
        let record = last_record(node)?["status"].clone();
        ensure!(record["phase"] == "ready" && record["toVersion"] == end.0, "after the command again: {record}");
    }
    if cut.during == During::Apply {
        node.ask(&Up::Configured, &["apply", "-f", &second_config(node, BRIEF)?])?;
        ensure!(generation(node)? == 2, "the second config is not in force");
    }
    sane(disk, &prepared.slots())?;
    Ok(match (runs, whole, failed) {
        (true, ..) => "runs already",
        (false, true, _) => "done to its end",
        (false, false, false) => "staged",
        (false, false, true) => "staged, having failed before",
    }
    .to_owned())
}
