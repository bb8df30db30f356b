//! From firmware without keys to a machine that starts only what its owner signed, by the ISO alone.

use testbed::firmware::Keys;
use testbed::nbd::NbdDisk;
use testbed::{Drive, Firmware};
use tests::images::Owner;
use tests::node::Node;
use tests::place;

use super::signed::{is_refused, is_vouched_for};
use crate::media::install::{DISK_BYTES, by_serial, install, maintenance};
use crate::upgrade::swap::HEALTH;

#[test]
#[ignore = "boots a VM: make vm-test T=secure_boot"]
fn the_iso_enrols_its_keys_and_installs_what_they_signed() -> anyhow::Result<()> {
    let owner = Owner::new()?;
    let image = owner.image("bare", "0.1.0")?;
    let mut node = Node::with("bare", &[HEALTH, &by_serial()])?.from_image(&image);
    node.hardware.firmware = Firmware::find_secure(Keys::None)?;
    node.hardware.tpm = true;
    // The disk is tried first: an empty one cannot be booted.
    node.hardware.drives.push(Drive::optical(image.join("corten.iso")));
    let disk = NbdDisk::empty(DISK_BYTES)?;
    node.boot(&disk)?;
    let up = maintenance(&node)?;
    install(&node, &up)?;
    is_vouched_for(&node, &image.join("uki.efi"))?;
    node.kill();

    node.hardware.remove_drives();
    let mut node = node.from_image(place::image("bare"));
    let unsigned = node.disk()?;
    is_refused(&mut node, &unsigned)
}
