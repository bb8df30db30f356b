//! What `make test` boots: one machine, from image to a pod that answers. `make vm-test` asks for more.

use crate::checks;
use crate::kubernetes;
use crate::smoke;

#[test]
#[ignore = "boots a VM: make test"]
fn one_command_brings_up_a_node_that_serves() {
    checks::run(|| smoke::cluster("short"), kubernetes::CHECKS);
}
