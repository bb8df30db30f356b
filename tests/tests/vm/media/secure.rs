//! Firmware that enforces Secure Boot.

use std::time::Duration;

use anyhow::ensure;
use testbed::Firmware;
use testbed::firmware::Keys;
use tests::node::Node;

/// From power-on until the firmware gives a disk up.
const REFUSED: Duration = Duration::from_secs(120);

#[test]
#[ignore = "boots a VM: make vm-test T=media"]
fn firmware_with_secure_boot_starts_no_image_that_is_not_signed() -> anyhow::Result<()> {
    let mut node = Node::new("bare")?;
    node.hardware.firmware = Firmware::find_secure(Keys::Snakeoil)?;
    let disk = node.disk()?;
    node.boot(&disk)?;
    node.machine()?.wait_console("Access Denied", REFUSED)?;
    ensure!(node.slots_booted()?.is_empty(), "an image booted all the same");
    Ok(())
}
