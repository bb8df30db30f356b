//! The agent of a Corten machine. It reads its few settings here, and nowhere else, and starts the app.

mod addresses;
mod admission;
mod agents;
mod announce;
mod app;
mod arp;
mod asked;
mod audit;
mod authority_keys;
mod boots;
mod bootstrap;
mod capture;
mod clock;
#[cfg(test)]
mod components;
mod config;
mod console;
mod containerd;
mod controller;
mod controllers;
mod etcd;
mod etcd_snapshots;
mod events;
mod failpoint;
#[cfg(test)]
mod figures;
mod files;
mod gate;
#[cfg(test)]
mod golden;
mod handshake;
mod health;
mod identity;
mod init_client;
mod init_events;
mod install;
mod logs;
mod member;
mod metrics_api;
mod names;
mod node;
mod packets;
mod plan;
mod power;
mod pressure;
mod refusal;
mod resolver;
mod resources;
mod reviews;
mod scores;
mod screen;
mod security;
mod server;
mod sources;
mod stage;
mod state_record;
mod store;
mod upgrade;
mod usage;

use std::path::PathBuf;

use app::Settings;
use machine::Root;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    // Whoever calls the Kubernetes API logs what goes wrong there.
    let filter = EnvFilter::try_from_env("NODEAGENT_LOG").unwrap_or_else(|_| EnvFilter::new("info,kube_client=off"));
    // init stamps each line of a service's log with the time.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).with_writer(std::io::stderr).init();
    let settings = Settings {
        root: Root::new(std::env::var_os("CORTEN_ROOT").unwrap_or_else(|| "/".into())),
        notify_socket: std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(app::run(settings))
}
