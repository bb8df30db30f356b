//! Upgrades of a machine that starts only what its owner signed.

use anyhow::{Context, ensure};
use testbed::BootOrder;
use tests::images::Owner;
use tests::node::{Node, Up};

use super::signed::{is_vouched_for, security};
use crate::upgrade::swap::{HEALTH, Updates, running, upgrade};
use crate::upgrade::unloadable::falls_back;

#[test]
#[ignore = "boots a VM: make vm-test T=secure_boot"]
fn a_signed_update_is_kept_and_one_that_another_signed_is_not() -> anyhow::Result<()> {
    let (owner, stranger, updates) = (Owner::new()?, Owner::new()?, Updates::new()?);
    let image = owner.image("bare", "0.1.0")?;
    let signed = updates.build("bare", "0.2.0", |build| owner.sign(build))?;
    let unsigned = updates.build("bare", "0.3.0", |build| build)?;
    let foreign = updates.build("bare", "0.4.0", |build| stranger.sign(build))?;

    let mut node = Node::with("bare", &[HEALTH])?.from_image(image);
    node.hardware.firmware = owner.firmware()?;
    node.hardware.tpm = true;
    node.hardware.boot_order = BootOrder::Variables;
    let _disk = node.configured()?;
    let before = security(&node)?;

    println!("  {}", upgrade(&node, &signed)?.trim());
    ensure!(running(&node)? == ("0.2.0".to_owned(), "b".to_owned()), "after the upgrade {:?} runs", running(&node)?);
    is_vouched_for(&node, &updates.folder().join("0.2.0/uki.efi"))?;
    ensure!(security(&node)?["pcr11"] != before["pcr11"], "two UKIs leave the same in the TPM");

    // The firmware would refuse it: known before anything is changed.
    let path = unsigned.to_str().context("a path in UTF-8")?;
    let refusal = node.ask(&Up::Configured, &["upgrade", path, "--yes", "--no-drain"]).err().context("an unsigned UKI was taken")?;
    println!("  {}", format!("{refusal:#}").rsplit("exit status: ").next().unwrap_or_default().trim());
    ensure!(format!("{refusal:#}").contains("no signature"), "{refusal:#}");

    // Who signed, the firmware alone knows.
    let refusal = upgrade(&node, &foreign).err().context("a UKI that somebody else signed was kept")?;
    ensure!(format!("{refusal:#}").contains("was not kept"), "{refusal:#}");
    falls_back(&node, "0.2.0", 'b')?;
    ensure!(node.slots_booted()? == ['a', 'b', 'b'], "booted {:?}", node.slots_booted()?);
    Ok(())
}
