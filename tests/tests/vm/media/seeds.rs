//! Configs that come on a volume (NoCloud): nobody applies anything.

use std::time::Duration;

use anyhow::{Context, ensure};
use testbed::medium::{self, Form};
use testbed::{Disk, DiskFormat, Drive};
use tests::node::{Node, Up};
use tests::until::until;

/// From power-on to an answer under the config: what a boot takes, and a look at each volume.
const PATIENCE: Duration = Duration::from_secs(240);

fn seeded(form: Form, drive: impl FnOnce(std::path::PathBuf) -> Drive) -> anyhow::Result<()> {
    let mut node = Node::new("bare")?;
    let path = node.file("seed");
    let config = std::fs::read(node.config())?;
    medium::write(&path, form, "cidata", &[("user-data", &config), ("meta-data", b"instance-id: i-1\n")])?;
    node.hardware.drives.push(drive(path));
    let disk = node.disk()?;
    node.boot(&disk)?;
    until("the machine with its config", PATIENCE, || node.ask(&Up::Configured, &["version", "--timeout", "5s"]))?;
    let sources = node.resources("configsources")?;
    let seen = sources.iter().find(|source| source["metadata"]["name"] == "nocloud" || source["name"] == "nocloud");
    let seen = seen.with_context(|| format!("no source nocloud in {sources:?}"))?;
    ensure!(seen["status"]["result"] == "applied", "{seen}");
    Ok(())
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_machine_takes_its_config_from_a_volume_in_an_optical_drive() -> anyhow::Result<()> {
    seeded(Form::Iso, Drive::optical)
}

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn a_machine_takes_its_config_from_a_fat_volume() -> anyhow::Result<()> {
    let form = Form::Fat { size_bytes: 8 << 20, sector_bytes: 512 };
    seeded(form, |path| Drive::new(Disk::File { path, format: DiskFormat::Raw }).serial("seed"))
}
