//! A machine with an identity and a config, and no image that can use it: the one in its slot knows another config only, the other slot is
//! empty. It is in recovery until an image comes that can.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use machine::disk::{Partition, layout};
use machine::protocol::ImageFacts;
use testbed::nbd::NbdDisk;
use tests::images::Build;
use tests::node::{Node, Up};
use tests::place;

use super::swap::{HEALTH, Updates, running, upgrade};

const BLOCK_BYTES: usize = 1 << 20;
/// From power-on to the agent.
const BOOT: Duration = Duration::from_secs(180);

/// Puts slot A of another image, and what boots it, in the place of the disk's own. All else, STATE above all, stays.
fn transplant(image: &Path, disk: &NbdDisk) -> anyhow::Result<()> {
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(image.join("manifest.json"))?)?;
    let facts: ImageFacts = serde_json::from_value(manifest["image"].clone())?;
    let source = File::open(image.join("disk.raw"))?;
    let (mut there, mut here) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
    for extent in layout(&facts.partitions, disk.size_bytes(), disk.sector_bytes())? {
        if ![Partition::Esp, Partition::RootA, Partition::RootAVerity].contains(&extent.partition) {
            continue;
        }
        for place in (extent.start..extent.start + extent.size).step_by(BLOCK_BYTES) {
            source.read_exact_at(&mut there, place).with_context(|| format!("{} at {place}", image.display()))?;
            disk.read(place, &mut here)?;
            if here != there {
                disk.overwrite(place, &there)?;
            }
        }
    }
    Ok(())
}

fn stage(node: &Node) -> anyhow::Result<String> {
    let answers = node.json(&Up::Configured, &["version", "--timeout", "20s"])?;
    answers[0]["stage"].as_str().map(str::to_owned).with_context(|| format!("no stage in {answers}"))
}

#[test]
#[ignore = "boots a VM: make vm-test T=upgrade"]
fn a_machine_whose_images_cannot_use_its_config_waits_for_one_that_can() -> anyhow::Result<()> {
    let updates = Updates::new()?;
    let good = updates.build("bare", "0.2.0", |build| build)?;
    let other = updates.folder().join("other");
    let build = Build::new("bare", "0.1.0").reword("nodeagent", "corten.dev/v1", "corten.dev/v0")?;
    build.argument("--update-key").argument(place::update_key()).argument("--update-level").argument("1").write(&other)?;
    let mut node = Node::with("bare", &[HEALTH])?;
    let disk = node.configured()?;
    let config = node.ask(&Up::Configured, &["config", "show", "--timeout", "20s"])?;
    node.kill();

    transplant(&other, &disk)?;
    node.boot(&disk)?;
    println!("  {}", node.machine()?.wait_console("corten: recovery: no generation of the machine config on STATE can be used", BOOT)?);
    ensure!(node.up()? == Up::Configured, "the machine lets strangers in");
    ensure!(stage(&node)? == "recovery", "the machine is in stage {}", stage(&node)?);
    println!("  {}", node.ask(&Up::Configured, &["get", "boots"])?);
    match node.stranger(&["version", "--timeout", "20s"]) {
        Ok(printed) => anyhow::bail!("a stranger was answered: {printed}"),
        Err(error) => ensure!(is_refused(&format!("{error:#}")), "{error:#}"),
    }

    println!("  {}", upgrade(&node, &good)?.trim());
    ensure!(running(&node)? == ("0.2.0".to_owned(), "b".to_owned()), "after the upgrade {:?} runs", running(&node)?);
    ensure!(node.ask(&Up::Configured, &["config", "show", "--timeout", "20s"])? == config, "the config changed");
    ensure!(stage(&node)? != "recovery", "the machine is still in recovery");
    Ok(())
}

/// In the handshake, or by a control plane, which lets strangers in to ask for certificates, in the answer.
fn is_refused(error: &str) -> bool {
    ["CertificateRequired", "needs a client certificate"].iter().any(|part| error.contains(part))
}
