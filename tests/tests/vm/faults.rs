//! What goes wrong, and what a machine does about it.

mod clock;
mod kills;
mod power;
mod rot;

pub use clock::wrong_clocks;
pub use kills::{CHECKS, REBOOT};
pub use power::{Cut, During};
pub use rot::a_flipped_byte_is_an_error;

use crate::{checks, smoke};

#[test]
#[ignore = "boots a VM: make vm-test T=faults"]
fn a_node_recovers_from_what_dies() {
    checks::run(|| smoke::cluster("faults"), &[CHECKS, REBOOT].concat());
}
