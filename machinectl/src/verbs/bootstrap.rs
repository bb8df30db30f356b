//! `bootstrap`: makes the cluster, once in its life.

use api::v1::BootstrapRequest;
use clap::Args;

use super::SLOW;
use crate::cli::World;
use crate::failure::Failure;
use crate::output::write;

/// Make the cluster: once in its life, on one control plane. Again, on that machine, it changes nothing
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Bootstrap {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let request = BootstrapRequest { dry_run: self.dry_run };
        let response = world.connection.one(SLOW, async |session| session.ask(session.cluster().bootstrap(request)).await).await?;
        response.plan.iter().for_each(|step| write(&format!("{step}\n")));
        match (response.already_bootstrapped, self.dry_run) {
            (true, _) => write("the cluster is there already: nothing changes\n"),
            (false, true) => {}
            (false, false) => write("bootstrapped; wait for it with: machinectl health --wait 10m\n"),
        }
        Ok(())
    }
}
