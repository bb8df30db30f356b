//! Images that end before their agent, and what is known of it afterwards.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use tests::images::{Build, Parts, program};
use tests::node::Up;

use super::matrix::Stage;
use super::swap::upgrade;

/// One try: what counts here is what it leaves.
const HEALTH: &str = "{ machine: { health: { hold: 5s, deadline: 3m, tries: 1 } } }";

/// Stage 1 is ours, and the root that it switches to has another init.
fn with_init(stage: &Stage, version: &str, init: Vec<u8>) -> anyhow::Result<PathBuf> {
    let out = stage.updates.folder().join(format!("{version}-init"));
    Build::new("bare", version).replace("init", init).write(&out)?;
    stage.of_parts(version, |parts, folder| parts.with_root_of(&Parts::of(&out)?, folder))
}

/// The update is tried once and given up, with this reason.
fn comes_to_nothing(stage: &Stage, file: &Path, ending: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let before = stage.standing()?;
    let refusal = upgrade(&stage.node, file).err().context("the image was kept")?;
    ensure!(format!("{refusal:#}").contains("was not kept"), "{refusal:#}");
    stage.fell_back(&before, file, "boot", &format!("the new image did not come up: 1 boot, the last {ending}"))?;
    println!("    {} s", began.elapsed().as_secs());
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn the_watchdog_that_stage_1_armed_ends_an_init_that_hangs() -> anyhow::Result<()> {
    let stage = Stage::new(HEALTH)?;
    let facts = stage.node.json(&Up::Configured, &["get", "bootfacts", "--timeout", "20s"])?;
    let steps = facts[0]["status"]["steps"].as_array().context("no steps")?;
    let step = steps.iter().find(|step| step["name"] == "arm the watchdog for what follows").context("stage 1 armed no watchdog")?;
    ensure!(step["error"].is_null(), "{step}");
    println!("  {step}");
    comes_to_nothing(&stage, &with_init(&stage, "0.2.3", program::hangs())?, "ended without a word")
}
