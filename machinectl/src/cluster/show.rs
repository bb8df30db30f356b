//! `cluster show`: the local clusters that there are, and their machines.

use clap::Args;
use controlplane::ports::API_SERVER_PORT;
use serde_json::json;

use super::state::{CLIENT_CONFIG, CONFIG, Folder, KUBECONFIG, Member, Record};
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table};

/// Show local clusters and their machines
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

fn state(member: &Member) -> &'static str {
    if member.is_running() { "running" } else { "stopped" }
}

fn address(member: &Member, guest: u16) -> String {
    member.forwarded(guest).unwrap_or_default()
}

fn table(clusters: &[(Folder, Record)], wide: bool) -> Table {
    let mut table = Table::new(&["CLUSTER", "MACHINE", "STATE", "ADDRESS", "MACHINE API", "KUBERNETES API", "ACCELERATOR", "DIRECTORY"]);
    table.headings.extend(wide.then(|| "IMAGE".to_owned()));
    for (folder, record) in clusters {
        for member in &record.machines {
            let accelerator = member.machine.as_ref().map_or("", |machine| machine.accelerator.name());
            table.row([
                record.name.clone(),
                member.name(),
                state(member).to_owned(),
                member.place.address(record.ip_family).to_string(),
                address(member, api::PORT),
                address(member, API_SERVER_PORT),
                accelerator.to_owned(),
                folder.of(member).display().to_string(),
                record.image.display().to_string(),
            ]);
        }
    }
    table
}

fn value(folder: &Folder, record: &Record) -> serde_json::Value {
    let machine = |member: &Member| {
        json!({
            "name": member.name(),
            "role": member.place.role,
            "state": state(member),
            "address": member.place.address(record.ip_family),
            "machineApi": member.forwarded(api::PORT),
            "kubernetesApi": member.forwarded(API_SERVER_PORT),
            "directory": folder.of(member),
            "config": folder.of(member).join(CONFIG),
        })
    };
    json!({
        "name": record.name,
        "directory": folder.directory,
        "clientConfig": folder.path(CLIENT_CONFIG),
        "kubeconfig": folder.path(KUBECONFIG),
        "kubernetesApi": record.kubernetes_api(),
        "machines": record.machines.iter().map(machine).collect::<Vec<_>>(),
        "record": record,
    })
}
