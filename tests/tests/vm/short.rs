//! What `make test` boots: one machine, asked for one proof of each claim.

use crate::checks;
use crate::faults;
use crate::kubernetes;
use crate::machine_api;
use crate::smoke;

#[test]
#[ignore = "boots a VM: make test"]
fn one_node_holds_what_is_claimed() {
    let cluster = smoke::cluster("short");
    let all = [kubernetes::CHECKS, machine_api::CHECKS, faults::CHECKS, &[("a reboot keeps the cluster", faults::reboot)]].concat();
    checks::run(&cluster, &all);
}
