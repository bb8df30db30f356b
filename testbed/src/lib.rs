//! QEMU machines without root, a segment between them, and a disk that can lose power: for machinectl's local clusters and for tests.
//!
//! A [`Machine`] is described by a [`MachineSpec`], rendered to QEMU's command line by a pure function, and started either bounded (it ends
//! with the process that started it, and after a hard limit) or detached. [`nbd::NbdDisk`] serves a disk that forgets what was not flushed.
//! [`segment`] is a switch whose links can be slow, lossy or cut.

mod accelerator;
mod console;
mod dice;
mod error;
pub mod firmware;
mod machine;
pub mod medium;
pub mod nbd;
mod port;
mod process;
mod program;
mod qmp;
pub mod segment;
mod socket;

pub use accelerator::Accelerator;
pub use console::Console;
pub use dice::Dice;
pub use error::Error;
pub use firmware::Firmware;
pub use machine::{
    Boot, BootOrder, Device, Disk, DiskFormat, Drive, Forward, HardwareAddress, Lifetime, Machine, MachineSpec, NAME_SERVER, NetworkBoot,
    RunningMachine, Tpm, TpmInterface, Watchdog, arguments,
};
pub use port::free_port;
pub use process::{ProcessId, host_boot_id};
pub use qmp::Qmp;
