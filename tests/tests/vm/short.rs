//! What `make test` boots: one machine from image to pods, with every claim asked of it, and one of each fault. `make vm-test` has all.

use testbed::nbd::CutAt;

use crate::checks::{self, Check};
use crate::faults::{self, Cut, During};
use crate::upgrade::{self, matrix, swap};
use crate::{kubernetes, machine_api, smoke};

const CLAIMS: &[&[Check]] = &[kubernetes::CHECKS, kubernetes::WORKLOAD_CHECKS, machine_api::CHECKS, faults::CHECKS];

#[test]
#[ignore = "boots a VM: make test"]
fn one_command_brings_up_a_node_that_serves() {
    checks::run(|| smoke::cluster("short"), &CLAIMS.concat());
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_power_cut_during_first_boot_loses_nothing() -> anyhow::Result<()> {
    Cut { during: During::FirstBoot, at: CutAt::Flush(7), seed: 1 }.happens()
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_power_cut_during_apply_loses_nothing() -> anyhow::Result<()> {
    Cut { during: During::Apply, at: CutAt::Flush(3), seed: 2 }.happens()
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_power_cut_during_bootstrap_loses_nothing() -> anyhow::Result<()> {
    Cut { during: During::Bootstrap, at: CutAt::Flush(120), seed: 3 }.happens()
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_wrong_clock_keeps_no_machine_down() -> anyhow::Result<()> {
    faults::wrong_clocks()
}

#[test]
#[ignore = "boots a VM: make test"]
fn a_flipped_byte_is_never_wrong_content() -> anyhow::Result<()> {
    faults::a_flipped_byte_is_an_error()
}

#[test]
#[ignore = "boots a VM: make test"]
fn an_image_is_swapped_there_and_back() -> anyhow::Result<()> {
    swap::there_and_back()
}

#[test]
#[ignore = "boots a VM: make test"]
fn an_image_that_is_no_good_ends_where_it_began() -> anyhow::Result<()> {
    matrix::most_telling()
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_power_cut_while_an_update_is_written_leaves_the_old_image() -> anyhow::Result<()> {
    upgrade::Cut { during: upgrade::During::Upload, at: CutAt::Flush(12), seed: 1 }.happens()
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_power_cut_before_a_new_image_has_proven_good_costs_a_try_only() -> anyhow::Result<()> {
    upgrade::Cut { during: upgrade::During::Trial, at: CutAt::Flush(60), seed: 2 }.happens()
}

#[test]
#[ignore = "boots VMs: make test"]
fn a_power_cut_while_a_config_is_applied_on_trial_leaves_one_or_the_other() -> anyhow::Result<()> {
    upgrade::Cut { during: upgrade::During::Apply, at: CutAt::Flush(5), seed: 3 }.happens()
}
