//! Swaps the images of machines, or reboots them, one machine after the other: look at all, show the plan, ask, then for each send what it lacks, drain it,
//! boot it into the other slot, wait until its image is proven good, and let pods onto it again. The first that does not come through
//! ends it.

mod backoff;
mod change;
mod drain;
mod fleet;
mod outcome;
mod patches;
mod quorum;
mod record;
mod skew;
mod standing;
mod upload;
mod way;

pub use change::{Update, Wish};
pub use patches::{Made, Olds};
pub use way::{Rolling, Way};

use change::Change;

use crate::cli::World;
use crate::confirm::confirmed;
use crate::failure::{Failure, Kind};
use crate::output::{tell, write};
use crate::progress::Progress;
use fleet::{Fleet, Member};
use futures::future::join_all;
use way::Wait;

pub async fn run(world: &World, wish: &Wish, way: &Way) -> Result<(), Failure> {
    let fleet = Fleet::look(world, wish).await?;
    for member in fleet.settled() {
        write(&format!("{}: {}\n", member.node(), member.change.settled(member)));
    }
    let members: Vec<&Member> = fleet.in_order().collect();
    if members.is_empty() {
        return Ok(());
    }
    if way.wait() == Wait::No && !way.stage && members.len() > 1 {
        let problem = "with several machines, each is waited for before the next one is begun";
        return Err(Failure::usage("--no-wait", problem).remedy("leave it out, or name one machine"));
    }
    fleet.check_skew()?;
    for member in &members {
        show(member, way, &fleet)?;
    }
    if way.dry_run || !(way.yes || confirmed("Go on?")?) {
        return Ok(());
    }
    let (control_planes, workers): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.is_control_plane());
    let mut done = fleet.settled().count();
    let mut begun = 0;
    for group in control_planes.chunks(1).chain(workers.chunks(way.pace.max_unavailable.get())) {
        begun += group.len();
        let came = join_all(group.iter().map(|member| one(world, member, way, &fleet))).await;
        done += came.iter().filter(|came| came.is_ok()).count();
        let failures: Vec<Failure> = came.into_iter().filter_map(Result::err).collect();
        if !failures.is_empty() {
            return Err(stopped(Failure::all(failures), done, &members[begun..], wish));
        }
    }
    Ok(())
}

/// The plan for one machine: what it says it will do, between what is done from here.
fn show(member: &Member, way: &Way, fleet: &Fleet) -> Result<(), Failure> {
    write(&format!("{}:\n", member.heading()));
    let mut steps: Vec<String> = member.planned.send.iter().cloned().collect();
    if !way.stage
        && let Some(quorum) = fleet.quorum(member)
    {
        steps.push(quorum.accepted(member.node(), way)?);
    }
    if let (Some(name), Some(deadline)) = (&member.kubernetes_node, way.drain()) {
        steps.push(format!("keep new pods from node {name} and evict its pods, within {}", machine::config::Duration(deadline)));
    }
    steps.extend(member.planned.steps.iter().cloned());
    if let Wait::AtMost(deadline) = way.wait() {
        steps.push(format!("wait until it is {}, at most {}", member.change.awaited(), machine::config::Duration(deadline)));
    }
    steps.iter().for_each(|step| write(&format!("  {step}\n")));
    Ok(())
}

/// All of it for one machine.
async fn one(world: &World, member: &Member, way: &Way, fleet: &Fleet) -> Result<(), Failure> {
    let (node, change) = (member.node(), &member.change);
    change.prepare(world, member).await?;
    let before = record::ended(&member.session).await?;
    let progress = Progress::waiting(world.quiet);
    if way.stage {
        change.begin(member, &before, way, &progress).await?;
        drop(progress);
        write(&format!("{node}: {} at its next reboot: machinectl reboot -n {node}\n", change.staged(member)));
        return Ok(());
    }
    if let Some(quorum) = fleet.quorum_now(world, member).await? {
        progress.done(&format!("{node}: {}", quorum.accepted(node, way)?));
    }
    let cordon = match (&member.kubernetes_node, way.drain()) {
        (Some(name), Some(deadline)) => Some(drain::drain(world, member, name, fleet, deadline, &progress).await?),
        _ => None,
    };
    let came = match (change.begin(member, &before, way, &progress).await, way.wait()) {
        (Err(failure), _) => outcome::not_begun(failure, cordon, &progress).await,
        (Ok(()), Wait::AtMost(deadline)) if matches!(change, Change::Reboot { .. }) => {
            outcome::rebooted(member, deadline, cordon, &progress).await
        }
        (Ok(()), Wait::AtMost(deadline)) => {
            let fate = record::fate(&member.session, &before, deadline, &progress).await;
            outcome::settle(fate, member, cordon, &progress).await
        }
        (Ok(()), Wait::No) => Ok(format!("{}; see `machinectl get upgrades -n {node}`", change.begun(member))),
    };
    drop(progress);
    came.map(|done| write(&format!("{node}: {done}\n")))
}

/// The failure that ended it, with the machines that were left out; partial if others were done.
fn stopped(failure: Failure, done: usize, rest: &[&Member], wish: &Wish) -> Failure {
    if !rest.is_empty() {
        let rest = rest.iter().map(|member| member.node().to_string()).collect::<Vec<_>>().join(", ");
        tell(&format!("not {}: {rest}", wish.participle()));
    }
    let kind = if done > 0 { Kind::Partial } else { failure.kind };
    Failure { kind, ..failure }
}
