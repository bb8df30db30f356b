//! `cluster add`: further machines for a cluster that runs.

use std::time::Duration;

use clap::Args;
use machine::config::Role;

use super::create::join;
use super::layout::{MOST_CONTROL_PLANES, MOST_WORKERS, Place};
use super::named::Named;
use super::state::{Member, Record};
use super::waiting::Deadline;
use crate::cli::World;
use crate::failure::Failure;
use crate::progress::Progress;

/// How long each may take if the user does not say.
const EACH: Duration = Duration::from_secs(10 * 60);

/// Add machines to a local cluster, and wait until they are healthy
#[derive(Debug, Args)]
pub struct Add {
    /// How many workers
    #[arg(long, value_name = "NUMBER", default_value_t = 0, num_args = 0..=1, default_missing_value = "1")]
    worker: u8,
    /// How many control planes
    #[arg(long, value_name = "NUMBER", default_value_t = 0, num_args = 0..=1, default_missing_value = "1")]
    control_plane: u8,
    #[command(flatten)]
    named: Named,
}

impl Add {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let (folder, mut record) = self.named.find(world)?;
        let added = self.added(&mut record)?;
        folder.save(&record)?;
        let progress = Progress::waiting(world.quiet);
        let usual = EACH * u32::try_from(added.len()).unwrap_or(u32::MAX);
        let deadline = Deadline::after(world.connection.timeout.map_or(usual, |timeout| timeout.0));
        join(world, &folder, &mut record, &added, &progress, deadline).await.map_err(|failure| {
            failure.remedy(format!("take what did not join out again with: machinectl cluster remove --cluster {} MACHINE", record.name))
        })
    }

    /// Their names, once the record has them.
    fn added(&self, record: &mut Record) -> Result<Vec<String>, Failure> {
        if self.worker == 0 && self.control_plane == 0 {
            return Err(Failure::usage("cluster add", "nothing to add").remedy("say --worker, --control-plane, or both"));
        }
        let wanted = [(Role::ControlPlane, self.control_plane, MOST_CONTROL_PLANES), (Role::Worker, self.worker, MOST_WORKERS)];
        let mut added = Vec::new();
        for (role, count, most) in wanted {
            for _ in 0..count {
                let place = Place::next(role, record.machines.iter().map(|member| member.place));
                if place.number > most {
                    return Err(Failure::usage("cluster add", format!("{} has no address; the last one is number {most}", place.name())));
                }
                record.put(Member::new(place));
                added.push(place.name());
            }
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::state::tests::record;

    #[test]
    fn machines_are_added_after_the_last() {
        let add = |worker, control_plane| {
            let named = <Parsed as clap::Parser>::parse_from(["cluster"]).named;
            Add { worker, control_plane, named }
        };
        let mut record = record();
        assert_eq!(add(2, 1).added(&mut record).expect("added"), ["cp-2", "worker-1", "worker-2"]);
        assert_eq!(add(1, 0).added(&mut record).expect("added"), ["worker-3"]);
        assert!(add(0, 0).added(&mut record).expect_err("nothing").to_string().contains("nothing to add"));
        assert!(add(200, 0).added(&mut record).expect_err("too many").to_string().contains("worker-151 has no address"));
    }

    #[derive(Debug, clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        named: Named,
    }
}
