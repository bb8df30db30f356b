//! Configs that are tried: they stay only if somebody says so in time, whatever happens to the machine meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use tests::node::{Node, Up};
use tests::until::until;

use super::swap::HEALTH;

/// From the end of the time to the config of before.
const REVERTED: Duration = Duration::from_secs(60);
const REBOOTED: Duration = Duration::from_secs(240);

/// What a try changes: read back as the machine's own answer.
fn other_deadline(minutes: u32) -> String {
    format!("{{ machine: {{ health: {{ deadline: {minutes}m }} }} }}")
}

fn attempt(node: &Node, minutes: u32, within: &str) -> anyhow::Result<()> {
    let printed = node.ask(&Up::Configured, &["apply", "-f", &node.config(), "--patch", &other_deadline(minutes), "--try", within])?;
    println!("  {}", printed.trim());
    in_force(node, minutes)
}

fn in_force(node: &Node, minutes: u32) -> anyhow::Result<()> {
    let shown = node.ask(&Up::Configured, &["config", "show", "--timeout", "20s"])?;
    ensure!(shown.contains(&format!("deadline: {minutes}m")), "not the config with a deadline of {minutes}m: {shown}");
    Ok(())
}

fn reboot(node: &Node) -> anyhow::Result<()> {
    let before = node.boot_id(&Up::Configured)?;
    node.ask(&Up::Configured, &["reboot", "--yes"])?;
    node.rebooted(&before, REBOOTED).map(drop)
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn a_config_that_is_tried_goes_unless_it_is_confirmed() -> anyhow::Result<()> {
    let mut node = Node::with("bare", &[HEALTH])?;
    let disk = node.configured()?;

    println!("  nobody confirms");
    attempt(&node, 4, "10s")?;
    until("the config of before", REVERTED, || in_force(&node, 3))?;

    println!("  the machine reboots before anybody confirms");
    attempt(&node, 5, "10m")?;
    reboot(&node)?;
    in_force(&node, 3)?;

    println!("  the power goes before anybody confirms");
    attempt(&node, 6, "10m")?;
    node.kill();
    node.boot(&disk)?;
    ensure!(node.up()? == Up::Configured, "the config is lost");
    in_force(&node, 3)?;

    println!("  confirmed in time");
    attempt(&node, 7, "2m")?;
    node.ask(&Up::Configured, &["config", "confirm"])?;
    reboot(&node)?;
    in_force(&node, 7)?;

    let history = node.json(&Up::Configured, &["config", "history", "--timeout", "20s"])?;
    println!("  {}", node.ask(&Up::Configured, &["config", "history"])?);
    let newest = history.as_array().and_then(|all| all.iter().max_by_key(|one| one["generation"].as_u64())).context("no generations")?;
    ensure!(newest["appliedBy"].as_str().is_some_and(|by| by.contains("admin")), "not applied by an administrator: {newest}");
    Ok(())
}
