//! The machine API from outside: a server on loopback with a temporary root and an init that is played, asked by real TLS clients.

mod access;
mod audit;
mod captures;
mod configs;
mod files;
pub mod harness;
mod init;
mod installs;
mod logs;
mod metrics;
mod passing;
mod power;
mod resources;
mod scrapes;
mod tokens;
mod upgrades;
