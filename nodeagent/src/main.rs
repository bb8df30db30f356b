//! The agent of a Corten machine. It reads its few settings here, and nowhere else, and starts the app.

mod app;
mod controller;
mod controllers;
mod init_client;
mod node;
mod plan;
mod resources;
mod store;

use machine::Root;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("NODEAGENT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // init stamps each line of a service's log with the time.
    tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).with_writer(std::io::stderr).init();
    let root = Root::new(std::env::var_os("CORTEN_ROOT").unwrap_or_else(|| "/".into()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(app::run(root))
}
