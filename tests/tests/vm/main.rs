//! Machines in QEMU. All of it is ignored by name: `make vm-test` runs it, `make vm-test T=<group>` one group, `make test` the group `short`.

mod checks;
mod cluster;
mod faults;
mod kubernetes;
mod machine_api;
mod media;
mod metrics;
mod network;
mod reconfigure;
mod screen;
mod secure_boot;
mod seeds;
mod services;
mod short;
mod smoke;
mod upgrade;
