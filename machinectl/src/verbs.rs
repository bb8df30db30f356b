//! One file for each command or family of commands: its arguments, and what it does with them.

pub mod apply;
pub mod audit;
pub mod bootstrap;
pub mod completion;
pub mod config;
pub mod context;
pub mod dashboard;
pub mod etcd;
pub mod files;
pub mod generate;
pub mod get;
pub mod health;
pub mod image;
pub mod kubeconfig;
pub mod log;
pub mod machines;
pub mod pcap;
pub mod power;
pub mod rollback;
pub mod rotate;
pub mod services;
pub mod token;
pub mod top;
pub mod upgrade;
pub mod validate;
pub mod version;

use std::time::Duration;

/// How long a call may take whose answer is at hand.
pub const QUICK: Option<Duration> = Some(Duration::from_secs(60));
/// How long a call may take for which services start or stop.
pub const SLOW: Option<Duration> = Some(Duration::from_secs(15 * 60));
