//! `cluster net show`: the rules, and what each machine sent and got.

use clap::Args;
use serde_json::json;
use testbed::segment::{self, ANY, Link, Status};

use super::super::named::Named;
use super::super::switch;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write};

/// Show what each machine has sent and received, and what is said of links
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    output: Output,
}

impl Show {
    pub fn run(self, world: &World) -> Result<(), Failure> {
        let (folder, record) = self.named.find(world)?;
        let directory = super::running(&folder.directory, record.switch.as_ref())?;
        let (plan, status) = (switch::plan(&directory)?, segment::status(&directory)?);
        self.output.print(|_| ports(&status), || json!({ "machines": status.ports, "links": plan.links }));
        if self.output.is_table() && !plan.links.is_empty() {
            write(&format!("\n{}", links(&plan.links).render(true)));
        }
        Ok(())
    }
}

fn ports(status: &Status) -> Table {
    let mut table = Table::new(&["MACHINE", "SENT", "RECEIVED", "LOST"]);
    for port in &status.ports {
        table.row([port.name.clone(), port.received.to_string(), port.sent.to_string(), port.lost.to_string()]);
    }
    table
}

fn links(links: &[Link]) -> Table {
    let mut table = Table::new(&["FROM", "TO", "PORT", "DELAY", "LOSS", "STATE"]);
    let name = |name: &str| if name == ANY { "all".to_owned() } else { name.to_owned() };
    for link in links {
        table.row([
            name(&link.from),
            name(&link.to),
            link.transport_port.map_or_else(|| "all".to_owned(), |port| port.to_string()),
            if link.delay_ms == 0 { String::new() } else { format!("{}ms", link.delay_ms) },
            if link.loss == 0.0 { String::new() } else { format!("{}%", link.loss * 100.0) },
            (if link.cut { "cut" } else { "open" }).to_owned(),
        ]);
    }
    table
}
