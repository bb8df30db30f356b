//! `cluster net`: what the links between the machines are like.

mod rules;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use testbed::segment::{self, Link, Plan};

use super::named::Named;
use super::switch;
use crate::cli::World;
use crate::failure::Failure;

/// Show the links between machines of a local cluster, make them slow or lossy, cut and mend them
#[derive(Debug, Subcommand)]
pub enum Net {
    Show(show::Show),
    Delay(Delay),
    Loss(Loss),
    Partition(Partition),
    Heal(Heal),
}

/// Delay what goes between machines
#[derive(Debug, Args)]
pub struct Delay {
    /// How long each frame takes, such as 50ms
    #[arg(value_name = "DURATION")]
    delay: machine::config::Duration,
    #[command(flatten)]
    between: Between,
}

/// Lose a share of what goes between machines
#[derive(Debug, Args)]
pub struct Loss {
    /// Share of frames, such as 10%
    #[arg(value_name = "SHARE", value_parser = rules::share)]
    share: f64,
    #[command(flatten)]
    between: Between,
}

/// Cut machines off
#[derive(Debug, Args)]
pub struct Partition {
    #[command(flatten)]
    between: Between,
}

/// Undo what was said of links
#[derive(Debug, Args)]
pub struct Heal {
    /// Only what was said of this machine [default: everything]
    machine: Option<String>,
    #[command(flatten)]
    named: Named,
}

#[derive(Debug, Clone, Args)]
struct Between {
    /// The machine whose links are meant
    machine: String,
    /// The machines at their other ends [default: all others]
    #[arg(value_name = "MACHINE")]
    others: Vec<String>,
    /// Only what goes from the first machine to the others
    #[arg(long)]
    one_way: bool,
    /// Only TCP and UDP from or to this port, such as 2380 between etcd's members
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    named: Named,
}

impl Net {
    pub fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Net::Show(show) => show.run(world),
            Net::Delay(Delay { delay, between }) => between.change(world, |link| link.delay(delay.0)),
            Net::Loss(Loss { share, between }) => between.change(world, |link| link.loss(share)),
            Net::Partition(Partition { between }) => between.change(world, Link::cut),
            Net::Heal(Heal { machine, named }) => set(world, &named, |plan| rules::heal(plan, machine.as_deref()), machine.as_slice()),
        }
    }
}

impl Between {
    fn change(self, world: &World, change: impl Fn(Link) -> Link) -> Result<(), Failure> {
        let names = [std::slice::from_ref(&self.machine), &self.others].concat();
        set(world, &self.named, |plan| rules::change(plan, &self.links(), &change), &names)
    }

    /// The links that are meant, with nothing said of them.
    fn links(&self) -> Vec<Link> {
        let others = if self.others.is_empty() { vec![segment::ANY.to_owned()] } else { self.others.clone() };
        let there = others.into_iter().map(|other| Link { transport_port: self.port, ..Link::new(&self.machine, other) });
        there.flat_map(|link| [Some(link.clone()), (!self.one_way).then(|| link.reversed())]).flatten().collect()
    }
}

/// Changes the plan of a cluster's switch, which has it in force when this returns.
fn set(world: &World, named: &Named, change: impl FnOnce(&mut Plan), machines: &[String]) -> Result<(), Failure> {
    let (folder, record) = named.find(world)?;
    machines.iter().try_for_each(|name| record.member(name).map(drop))?;
    let directory = running(&folder.directory, record.switch.as_ref())?;
    let mut plan = switch::plan(&directory)?;
    change(&mut plan);
    segment::set(&directory, &plan)?;
    Ok(())
}

/// The directory of a switch that runs.
fn running(cluster: &std::path::Path, switch: Option<&testbed::ProcessId>) -> Result<PathBuf, Failure> {
    let alive = switch.is_some_and(testbed::ProcessId::is_alive);
    let off = || Failure::new(cluster.display(), "no switch runs: the cluster is off").remedy("machinectl cluster start");
    alive.then(|| switch::directory(cluster)).ok_or_else(off)
}
