//! Swaps the images of machines, one machine after the other: look at all, show the plan, ask, then for each send what it lacks, drain it,
//! boot it into the other slot, wait until its image is proven good, and let pods onto it again. The first that does not come through
//! ends it.

mod backoff;
mod change;
mod drain;
mod fleet;
mod quorum;
mod record;
mod skew;
mod standing;
mod upload;
mod way;

pub use change::{Update, Wish};
pub use way::Way;

use std::time::Duration;

use api::v1::GetVersionRequest;

use crate::cli::World;
use crate::confirm::confirmed;
use crate::failure::{Failure, Kind};
use crate::output::{tell, write};
use crate::progress::Progress;
use crate::verbs::health::AGAIN;
use drain::Cordon;
use fleet::{Fleet, Member};
use record::{Fate, Record};
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
    if way.wait() == Wait::No && members.len() > 1 {
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
    for (index, member) in members.iter().enumerate() {
        if let Err(failure) = one(world, member, way, &fleet).await {
            let done = index + fleet.settled().count();
            return Err(stopped(failure, done, &members[index + 1..], wish));
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
        steps.push(format!("wait until it is proven good or falls back, at most {}", machine::config::Duration(deadline)));
    }
    steps.iter().for_each(|step| write(&format!("  {step}\n")));
    Ok(())
}

/// All of it for one machine.
async fn one(world: &World, member: &Member, way: &Way, fleet: &Fleet) -> Result<(), Failure> {
    let (node, session, change) = (member.node(), &member.session, &member.change);
    change.prepare(world, member).await?;
    let before = record::ended(session).await?;
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
    let begun = change.begin(member, &before, way, &progress).await;
    if let Err(failure) = begun {
        return Err(lift_after(failure, cordon, &progress).await);
    }
    let Wait::AtMost(deadline) = way.wait() else {
        write(&format!("{node}: {}; see `machinectl get upgrades -n {node}`\n", change.begun(member)));
        return Ok(());
    };
    let fate = match record::fate(session, &before, deadline, &progress).await {
        Ok(fate) => fate,
        // Nobody knows what state it is in: pods are kept away.
        Err(failure) => return Err(still_cordoned(failure, cordon)),
    };
    match fate {
        Fate::Blessed(record) => {
            lift(cordon, &progress).await?;
            drop(progress);
            write(&format!("{node}: runs {} (slot {}), proven good\n", record.to_version, record.to_slot));
            Ok(())
        }
        Fate::Failed(record) => {
            let failure = record.failure(node);
            match back_in_old_slot(member, &record, &progress).await {
                true => Err(lift_after(failure, cordon, &progress).await),
                false => Err(still_cordoned(failure, cordon)),
            }
        }
    }
}

/// How long a machine that gave up its new image may take until it answers from the old one.
const FALL_BACK: Duration = Duration::from_secs(5 * 60);

/// The record says `failed` a moment before the machine reboots.
async fn back_in_old_slot(member: &Member, record: &Record, progress: &Progress) -> bool {
    progress.wait_for(format!("{} falls back to {}", member.node(), record.from_version));
    let back = async {
        loop {
            match member.session.machine().get_version(GetVersionRequest {}).await {
                Ok(version) if version.get_ref().slot == record.from_slot => return,
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    };
    tokio::time::timeout(FALL_BACK, back).await.is_ok()
}

async fn lift(cordon: Option<Cordon>, progress: &Progress) -> Result<(), Failure> {
    match cordon {
        Some(cordon) => cordon.lift(progress).await,
        None => Ok(()),
    }
}

/// A failure after which pods may come back; if that fails as well, it says so.
async fn lift_after(failure: Failure, cordon: Option<Cordon>, progress: &Progress) -> Failure {
    match lift(cordon, progress).await {
        Ok(()) => failure,
        Err(second) => Failure { problems: [vec![second.to_string()], failure.problems].concat(), ..failure },
    }
}

fn still_cordoned(failure: Failure, cordon: Option<Cordon>) -> Failure {
    match cordon.and_then(Cordon::left) {
        Some(left) => Failure { problems: [vec![left], failure.problems].concat(), ..failure },
        None => failure,
    }
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
