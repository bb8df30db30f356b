//! A reset: what a machine has by being somebody's is gone, its image is not.

use std::time::Duration;

use anyhow::ensure;
use tests::node::{Node, Up};

use super::swap::{HEALTH, Updates, running, upgrade};

/// From the call to maintenance: an ordered shutdown, a boot, a new STATE.
const RESET: Duration = Duration::from_secs(300);

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn a_reset_returns_to_the_image_without_config() -> anyhow::Result<()> {
    let updates = Updates::new()?;
    let file = updates.build("bare", "0.2.0", |build| build)?;
    let mut node = Node::with("bare", &[HEALTH])?;
    let disk = node.configured()?;
    upgrade(&node, &file)?;
    node.kill();

    // A console without the fingerprint of the first boot.
    node.boot(&disk)?;
    ensure!(node.up()? == Up::Configured, "the machine lost its config");
    println!("  {}", node.ask(&Up::Configured, &["reset", "--yes", "--timeout", "60s"])?.trim());
    node.machine()?.wait_console("fingerprint sha256:", RESET)?;
    let up = node.up()?;
    ensure!(matches!(up, Up::Maintenance { .. }), "the machine has a config still");
    let version = node.json(&up, &["version", "--timeout", "20s"])?;
    ensure!((&version[0]["version"], &version[0]["slot"]) == (&"0.2.0".into(), &"b".into()), "runs {version}");
    ensure!(version[0]["stage"] == "maintenance", "{version}");

    // It is nobody's, and takes a config as a new one does.
    node.apply(&up)?;
    ensure!(running(&node)? == ("0.2.0".to_owned(), "b".to_owned()), "{:?} runs", running(&node)?);
    let history = node.json(&Up::Configured, &["config", "history", "--timeout", "20s"])?;
    ensure!(history.as_array().is_some_and(|all| all.len() == 1), "{history}");
    let upgrades = node.resources("upgrades")?;
    ensure!(upgrades.is_empty(), "records of before: {upgrades:?}");
    Ok(())
}
