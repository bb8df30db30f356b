//! `version`: what runs here and there.

use api::v1::{GetVersionRequest, GetVersionResponse};
use clap::Args;
use machine::config::HostPort;
use serde_json::{Value, json};

use super::QUICK;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write};

/// Show the versions of machinectl and of machines
#[derive(Debug, Args)]
pub struct Version {
    /// Only machinectl's own
    #[arg(long)]
    client: bool,
    #[command(flatten)]
    output: Output,
}

impl Version {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let own = env!("CARGO_PKG_VERSION");
        if self.client {
            write(&format!("machinectl {own}\n"));
            return Ok(());
        }
        let ask = async |session: crate::session::Session| session.ask(session.machine().get_version(GetVersionRequest {})).await;
        let answers = world.connection.each(QUICK, ask).await?;
        if self.output.is_table() {
            write(&format!("machinectl {own}\n\n"));
        }
        if !answers.done.is_empty() {
            self.output
                .print(|wide| table(&answers.done, wide), || answers.done.iter().map(|(node, version)| value(node, version)).collect());
        }
        answers.outcome()
    }
}

fn table(versions: &[(HostPort, GetVersionResponse)], wide: bool) -> Table {
    let mut table = Table::new(&["NODE", "HOSTNAME", "STAGE", "CORTEN", "KUBERNETES", "PROFILE", "SLOT"]);
    if wide {
        table.headings.extend(["KERNEL", "ARCHITECTURE", "BOOT"].map(str::to_owned));
    }
    for (node, version) in versions {
        let v = version.clone();
        table.row([node.to_string(), v.hostname, v.stage, v.version, v.kubernetes, v.profile, v.slot, v.kernel, v.architecture, v.boot_id]);
    }
    table
}

fn value(node: &HostPort, version: &GetVersionResponse) -> Value {
    json!({
        "node": node.to_string(),
        "hostname": version.hostname,
        "stage": version.stage,
        "version": version.version,
        "kubernetes": version.kubernetes,
        "profile": version.profile,
        "slot": version.slot,
        "kernel": version.kernel,
        "architecture": version.architecture,
        "bootId": version.boot_id,
    })
}
