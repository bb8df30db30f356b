//! machinectl: machines and clusters from the command line.

mod cli;
mod cluster;
mod confirm;
mod connection;
mod failure;
mod files;
mod kubernetes;
mod output;
mod patch;
mod places;
mod progress;
mod rotate;
mod session;
mod swap;
mod tls;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::places::Places;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let places = Places::from_environment();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::tell(&format!("error: starting: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run(&places)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::tell(&format!("error: {failure}"));
            failure.kind.exit_code()
        }
    }
}
