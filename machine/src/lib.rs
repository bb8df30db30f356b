//! The vocabulary that every part of Corten shares. No I/O, no async, no global state: values and the rules between them.
//!
//! `config` (the machine config) and `audit` stand behind features of the same names, because init needs none of them.

pub mod account;
#[cfg(feature = "audit")]
pub mod audit;
pub mod boot;
#[cfg(feature = "config")]
pub mod config;
pub mod disk;
pub mod file;
pub mod hardware_address;
pub mod paths;
pub mod protocol;
pub mod record;
pub mod service;
pub mod stage;
pub mod upgrade;
pub mod verity;
pub mod version;

pub use hardware_address::HardwareAddress;
pub use paths::Root;
