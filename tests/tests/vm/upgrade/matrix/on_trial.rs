//! Images that come up, and then a check fails: the health gate gives them up, and the config that was applied meanwhile goes with them.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::node::{Node, Up};

use super::Stage;

/// Time enough to apply a config while the image is on trial.
pub const HEALTH: &str = "{ machine: { health: { hold: 1m, deadline: 2m, tries: 2 } } }";
/// Nothing listens there.
const FAILING: &str = "{ machine: { health: { checks: [{ name: workload, tcp: { address: '127.0.0.1:9' } }] } } }";
/// The machine's own API, at the address that DHCP gives it.
const OWN_ADDRESS: &str = "{ machine: { health: { checks: [{ name: network, tcp: { address: '10.0.2.15:50000' } }] } } }";
const ANOTHER_HOLD: &str = "{ machine: { health: { hold: 50s } } }";
/// Of no network that there is.
const WRONG_ADDRESS: &str = "{ machine: { network: { interfaces: [{ name: eth0, addresses: [198.51.100.7/24] }] } } }";

/// A user's check that never passes.
pub fn gate_fails(stage: &Stage) -> anyhow::Result<()> {
    println!("  a check that fails");
    is_given_up(stage, "0.2.8", FAILING, ("workload", ANOTHER_HOLD))
}

/// A config that cuts the network, applied while the image is on trial.
fn network_is_cut(stage: &Stage) -> anyhow::Result<()> {
    println!("  a config that cuts the network");
    is_given_up(stage, "0.2.9", OWN_ADDRESS, ("network", WRONG_ADDRESS))
}

fn is_given_up(stage: &Stage, version: &str, checks: &str, (check, meanwhile): (&str, &str)) -> anyhow::Result<()> {
    let began = std::time::Instant::now();
    let (node, file) = (&stage.node, stage.updates.build("bare", version, |build| build)?);
    apply(node, &[HEALTH, checks])?;
    let before = stage.standing()?;
    ensure!(before.slot == "a" && before.blessed, "{before:?}");
    let path = file.to_str().context("a path in UTF-8")?;
    node.ask(&Up::Configured, &["upgrade", path, "--yes", "--no-drain", "--no-wait"])?;
    stage.runs_in("b", Duration::from_secs(300))?;
    // The answer may be lost with the network.
    let applied = apply(node, &[HEALTH, checks, meanwhile]);
    println!("    {}", applied.as_ref().map_or_else(|error| format!("{error:#}"), String::clone).lines().last().unwrap_or_default());
    stage.fell_back(&before, &file, check, "")?;
    let history = node.json(&Up::Configured, &["config", "history"])?;
    let newest = history.as_array().into_iter().flatten().filter_map(|one| one["generation"].as_u64()).max();
    ensure!(newest > Some(before.generation), "the config that was applied on trial was never in force: {history}");
    println!("    {} s", began.elapsed().as_secs());
    Ok(())
}

fn apply(node: &Node, patches: &[&str]) -> anyhow::Result<String> {
    let config = node.config();
    let patches = patches.iter().flat_map(|patch| ["--patch", patch]);
    let arguments: Vec<&str> = ["apply", "-f", &config, "--timeout", "40s"].into_iter().chain(patches).collect();
    node.ask(&Up::Configured, &arguments)
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn images_of_which_a_check_fails() -> anyhow::Result<()> {
    let stage = Stage::new(HEALTH)?;
    gate_fails(&stage)?;
    network_is_cut(&stage)
}
