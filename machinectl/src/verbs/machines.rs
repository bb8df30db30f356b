//! `machines`: those that have joined the cluster.

use api::v1::{JoinedMachine, ListMachinesRequest, MachineRole, RevokeMachineRequest};
use clap::{Args, Subcommand, ValueEnum};
use dashboard::times;
use serde_json::{Value, json};

use super::QUICK;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write};
use crate::session::Session;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    Worker,
    #[value(name = "controlplane")]
    ControlPlane,
}

impl Role {
    pub fn told(self) -> MachineRole {
        match self {
            Role::Worker => MachineRole::Worker,
            Role::ControlPlane => MachineRole::ControlPlane,
        }
    }
}

/// As the machine config says it; empty for any.
pub fn role_name(role: MachineRole) -> &'static str {
    match role {
        MachineRole::Unspecified => "",
        MachineRole::ControlPlane => "controlplane",
        MachineRole::Worker => "worker",
    }
}

#[derive(Debug, Subcommand)]
pub enum Machines {
    List(List),
    Revoke(Revoke),
}

/// Show the machines that have joined the cluster
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    output: Output,
}

/// Give a machine no more certificates; those that it has count until they end. A control plane leaves etcd first
#[derive(Debug, Args)]
pub struct Revoke {
    /// Name of its node
    name: String,
}

impl Machines {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Machines::List(list) => list.run(world).await,
            Machines::Revoke(revoke) => revoke.run(world).await,
        }
    }
}

impl List {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: Session| session.ask(session.cluster().list_machines(ListMachinesRequest {})).await;
        let machines = world.connection.one(QUICK, ask).await?.machines;
        self.output.print(|_| table(&machines), || Value::Array(machines.iter().map(value).collect()));
        Ok(())
    }
}

impl Revoke {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let request = RevokeMachineRequest { node: self.name.clone() };
        let ask = async |session: Session| session.ask(session.cluster().revoke_machine(request.clone())).await;
        world.connection.one(QUICK, ask).await?;
        if !world.quiet {
            write(&format!("machine {} is revoked; take its Node out of the cluster with: kubectl delete node {0}\n", self.name));
            if was_control_plane(world, &self.name).await? {
                write(
                    "it holds the authorities' keys, and can issue certificates by itself: if it is in others' hands, rotate all authorities\n",
                );
            }
        }
        Ok(())
    }
}

async fn was_control_plane(world: &World, name: &str) -> Result<bool, Failure> {
    let ask = async |session: Session| session.ask(session.cluster().list_machines(ListMachinesRequest {})).await;
    let machines = world.connection.one(QUICK, ask).await?.machines;
    Ok(machines.iter().any(|machine| machine.node == name && machine.role() == MachineRole::ControlPlane))
}

fn table(machines: &[JoinedMachine]) -> Table {
    let mut table = Table::new(&["NAME", "ROLE", "ADDRESSES", "TOKEN", "JOINED", "STATE"]);
    for machine in machines {
        let state = if machine.revoked { "revoked" } else { "joined" };
        let (role, addresses) = (role_name(machine.role()), machine.addresses.join(", "));
        table.row([machine.node.as_str(), role, &addresses, &machine.token, &times::shown(machine.joined_at.as_ref()), state]);
    }
    table
}

fn value(machine: &JoinedMachine) -> Value {
    json!({
        "name": machine.node,
        "role": role_name(machine.role()),
        "addresses": machine.addresses,
        "token": machine.token,
        "joinedAt": times::shown(machine.joined_at.as_ref()),
        "revoked": machine.revoked,
    })
}
