//! Machines whose clock is wrong at power-on, as without a battery or after years in a store.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use tests::node::{Node, Up};
use time::OffsetDateTime;
use time::macros::format_description;

const DAY: Duration = Duration::from_secs(86_400);

/// The first second of Unix, and tomorrow.
fn clocks() -> anyhow::Result<[String; 2]> {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let tomorrow = OffsetDateTime::from(SystemTime::now() + DAY).format(&format).context("tomorrow")?;
    Ok(["1970-01-01T00:00:00".to_owned(), tomorrow])
}

/// With each clock a machine takes its config, and comes up with it again.
pub fn wrong_clocks() -> anyhow::Result<()> {
    for clock in clocks()? {
        let mut node = Node::new("bare")?;
        let disk = node.disk()?;
        node.hardware.clock = Some(clock.clone());
        node.boot(&disk)?;
        node.apply(&node.up()?).with_context(|| format!("first boot at {clock}"))?;
        node.kill();
        node.boot(&disk)?;
        ensure!(node.up().with_context(|| format!("second boot at {clock}"))? == Up::Configured, "at {clock}: the config is lost");
    }
    Ok(())
}

#[test]
#[ignore = "boots VMs: make vm-test T=faults"]
fn machines_come_up_with_a_wrong_clock() -> anyhow::Result<()> {
    wrong_clocks()
}

/// A cluster made at 1970 is there after a boot with a clock that is a day ahead, and after one at 1970 again.
#[test]
#[ignore = "boots VMs: make vm-test T=faults"]
fn a_cluster_lives_through_wrong_clocks() -> anyhow::Result<()> {
    let [first, tomorrow] = clocks()?;
    let mut node = Node::new("controlplane")?;
    let disk = node.disk()?;
    for (boot, clock) in [first.clone(), tomorrow, first].into_iter().enumerate() {
        node.hardware.clock = Some(clock.clone());
        node.boot(&disk)?;
        let up = node.up().with_context(|| format!("boot {boot} at {clock}"))?;
        node.apply(&up)?;
        node.bootstrap().with_context(|| format!("boot {boot} at {clock}"))?;
        node.kill();
    }
    Ok(())
}
