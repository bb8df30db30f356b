//! `cluster show`: the local clusters that there are.

use clap::Args;
use controlplane::ports::API_SERVER_PORT;
use serde_json::json;

use super::state::{CLIENT_CONFIG, Folder, KUBECONFIG, Record};
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table};

/// Show local clusters
#[derive(Debug, Args)]
pub struct Show {
    /// One of them [default: all]
    name: Option<String>,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub fn run(self, world: &World) -> Result<(), Failure> {
        let folders = match &self.name {
            Some(name) => vec![Folder::new(&world.places.clusters, name)?],
            None => Folder::all(&world.places.clusters)?,
        };
        let clusters = folders.into_iter().map(|folder| folder.record().map(|record| (folder, record))).collect::<Result<Vec<_>, _>>()?;
        self.output.print(|wide| table(&clusters, wide), || clusters.iter().map(|(folder, record)| value(folder, record)).collect());
        Ok(())
    }
}

fn state(record: &Record) -> &'static str {
    if record.is_running() { "running" } else { "stopped" }
}

/// `127.0.0.1:<port>` of a port of the guest.
fn address(record: &Record, guest: u16) -> String {
    let forwards = record.machine.as_ref().map(|machine| machine.forwards.as_slice()).unwrap_or_default();
    forwards.iter().find(|forward| forward.guest == guest).map(|forward| format!("127.0.0.1:{}", forward.host)).unwrap_or_default()
}

fn table(clusters: &[(Folder, Record)], wide: bool) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "MACHINE API", "KUBERNETES API", "ACCELERATOR", "DIRECTORY"]);
    table.headings.extend(wide.then(|| "IMAGE".to_owned()));
    for (folder, record) in clusters {
        let accelerator = record.machine.as_ref().map_or("", |machine| machine.accelerator.name());
        table.row([
            record.name.clone(),
            state(record).to_owned(),
            address(record, api::PORT),
            address(record, API_SERVER_PORT),
            accelerator.to_owned(),
            folder.directory.display().to_string(),
            record.image.display().to_string(),
        ]);
    }
    table
}

fn value(folder: &Folder, record: &Record) -> serde_json::Value {
    json!({
        "name": record.name,
        "state": state(record),
        "machineApi": address(record, api::PORT),
        "kubernetesApi": address(record, API_SERVER_PORT),
        "directory": folder.directory,
        "clientConfig": folder.path(CLIENT_CONFIG),
        "kubeconfig": folder.path(KUBECONFIG),
        "record": record,
    })
}
