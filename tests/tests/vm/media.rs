//! Machines without a disk of their own, booted from a medium and installed from there; what else a machine finds on media; and firmware
//! that checks what it starts.

mod boot_options;
pub mod install;
mod network;
mod refusals;
mod secure;
mod seeds;
mod stick;
mod two_disks;
