//! `etcd recover`: after quorum is lost for good, the most advanced survivor goes on alone and the others join it; and `etcd rejoin`, for one
//! that comes back later.

use std::time::{Duration, Instant};

use api::v1::{GetEtcdStatusResponse, ListEtcdMembersRequest, RecoverEtcdRequest, RejoinEtcdRequest};
use clap::Args;
use machine::config::HostPort;

use super::members::{status, status_table};
use crate::cli::World;
use crate::confirm::{confirmed, named};
use crate::failure::Failure;
use crate::output::write;
use crate::progress::Progress;
use crate::session::Session;
use crate::verbs::{QUICK, SLOW};

const AGAIN: Duration = Duration::from_secs(1);
/// How long the survivor may take to be reachable for those that join it.
const REACHABLE_WITHIN: Duration = Duration::from_secs(60);

/// Bring etcd back after a majority of its members is lost: the most advanced survivor goes on, the others join it anew
#[derive(Debug, Args)]
#[command(after_help = "All control planes of the context are asked, or those named with --nodes.\n\
                        One that does not answer must not come back with what it has: reset it, or machinectl etcd rejoin -n HOST.")]
pub struct Recover {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Give up a machine's copy of etcd's data, and have it join the cluster that another control plane has
#[derive(Debug, Args)]
pub struct Rejoin {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also where nobody answers whose cluster it could join, or where its own cluster still does
    #[arg(long)]
    force: bool,
}

/// A control plane, and what it said.
type Told = (HostPort, GetEtcdStatusResponse);

/// Who goes on, and who joins it.
#[derive(Debug, Clone, PartialEq)]
struct Plan {
    survivor: Told,
    joining: Vec<Told>,
}

impl Recover {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let answers = world.connection.each(QUICK, async |session| status(&session).await).await?;
        write(&status_table(&answers.done, false).render(true));
        let silent: Vec<String> = answers.failed.iter().map(ToString::to_string).collect();
        let plan = plan(&answers.done)?;
        let (node, hostname) = (plan.survivor.0.clone(), plan.survivor.1.hostname.clone());
        let recover = async |session: Session, dry_run: bool| {
            let request = RecoverEtcdRequest { confirm: hostname.clone(), dry_run };
            session.ask(session.etcd().recover(request)).await
        };
        let survivor = world.connection.among(vec![node.clone()]);
        let steps = survivor.one(QUICK, async |session| recover(session, true).await).await?.plan;
        write(&format!("\n{node} ({hostname}) is the most advanced of those that answer:\n"));
        steps.iter().for_each(|step| write(&format!("  {step}\n")));
        for (other, told) in &plan.joining {
            write(&format!("{other} ({}):\n  wipe its copy of etcd's data, and join as a new member\n", told.hostname));
        }
        for trouble in &silent {
            write(&format!("{trouble}\n  it must not come back with what it has: reset it, or machinectl etcd rejoin\n"));
        }
        if self.dry_run {
            return Ok(());
        }
        let question = "What only lost members had agreed on is lost, and so is what the others have on their disks. Go on?";
        if !(self.yes || confirmed(question)?) {
            return Ok(());
        }
        let progress = Progress::waiting(world.quiet);
        let go_on = async |session: Session| {
            recover(session.clone(), false).await?;
            until_alone(&session, &progress).await
        };
        survivor.one(SLOW, go_on).await?;
        progress.done(&format!("{node} runs etcd alone"));
        for (other, told) in &plan.joining {
            let one = world.connection.among(vec![other.clone()]);
            let join = async |session: Session| {
                let request = RejoinEtcdRequest { confirm: told.hostname.clone(), dry_run: false, force: false };
                let started = Instant::now();
                // The survivor's etcd starts once more before others reach it.
                while let Err(failure) = session.ask(session.etcd().rejoin(request.clone())).await {
                    if started.elapsed() > REACHABLE_WITHIN {
                        return Err(failure);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                until_voter(&session, &progress).await
            };
            one.one(SLOW, join).await?;
            progress.done(&format!("{other} is a member again"));
        }
        drop(progress);
        write("recovered\n");
        Ok(())
    }
}

/// The survivor is the one that Raft would elect: the log's last term decides, then its last index.
fn plan(told: &[Told]) -> Result<Plan, Failure> {
    if let Some((node, _)) = told.iter().find(|(_, status)| status.quorum) {
        return Err(Failure::new(node, "etcd has its quorum: nothing is to be recovered")
            .remedy("remove dead members with machinectl etcd remove; have others join with machinectl etcd rejoin"));
    }
    let mut machines: Vec<&Told> = Vec::new();
    for one in told {
        // One machine may be known by several addresses.
        if machines.iter().all(|(_, other)| other.hostname != one.1.hostname) {
            machines.push(one);
        }
    }
    let members = machines.iter().filter(|(_, status)| !status.member_id.is_empty() && status.log_index > 0 && !status.learner);
    let survivor = members.max_by_key(|(_, status)| (status.log_term, status.log_index)).copied();
    let Some(survivor) = survivor else {
        return Err(
            Failure::new("", "no control plane that answers has data of etcd's").remedy("restore a snapshot: machinectl etcd restore")
        );
    };
    if let Some((other, _)) =
        machines.iter().find(|(_, status)| !status.cluster_id.is_empty() && status.cluster_id != survivor.1.cluster_id)
    {
        return Err(Failure::new(other, "its data is of another cluster than the others'").remedy("say with --nodes which are meant"));
    }
    let joining =
        machines.into_iter().filter(|one| one.1.hostname != survivor.1.hostname && !one.1.member_id.is_empty()).cloned().collect();
    Ok(Plan { survivor: survivor.clone(), joining })
}

impl Rejoin {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: &Session, confirm: String, dry_run: bool| {
            let request = RejoinEtcdRequest { confirm, dry_run, force: self.force };
            session.ask(session.etcd().rejoin(request)).await
        };
        let look = async |session: Session| {
            let hostname = status(&session).await?.hostname;
            Ok((session.node.clone(), hostname, ask(&session, String::new(), true).await?.plan))
        };
        let (node, hostname, plan) = world.connection.one(QUICK, look).await?;
        write(&format!("{node} ({hostname}):\n"));
        plan.iter().for_each(|step| write(&format!("  {step}\n")));
        if self.dry_run {
            return Ok(());
        }
        if !(self.yes || named("Its data is lost.", &hostname)?) {
            return Err(Failure::new(node, "nothing was changed"));
        }
        let progress = Progress::waiting(world.quiet);
        let join = async |session: Session| {
            ask(&session, hostname.clone(), false).await?;
            until_voter(&session, &progress).await
        };
        world.connection.one(SLOW, join).await?;
        drop(progress);
        write(&format!("{node} is a member again\n"));
        Ok(())
    }
}

/// Until the machine's etcd leads a cluster of its own. The deadline is the caller's.
pub async fn until_alone(session: &Session, progress: &Progress) -> Result<(), Failure> {
    until(session, progress, |status| status.running && status.quorum && status.leader_id == status.member_id).await
}

async fn until_voter(session: &Session, progress: &Progress) -> Result<(), Failure> {
    until(session, progress, |status| status.running && status.quorum && !status.learner).await?;
    session.ask(session.etcd().list_members(ListEtcdMembersRequest {})).await.map(drop)
}

async fn until(session: &Session, progress: &Progress, is_so: impl Fn(&GetEtcdStatusResponse) -> bool) -> Result<(), Failure> {
    loop {
        match status(session).await {
            Ok(status) if is_so(&status) && status.waits_for.is_empty() => return Ok(()),
            Ok(status) => progress.wait_for(format!("{} waits for {}", session.node, status.waits_for)),
            Err(failure) => progress.wait_for(failure.to_string()),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(host: &str, term: u64, index: u64) -> Told {
        let status = GetEtcdStatusResponse {
            hostname: host.to_owned(),
            member_id: host.to_owned(),
            cluster_id: "c".to_owned(),
            log_term: term,
            log_index: index,
            ..Default::default()
        };
        (crate::connection::node(host).unwrap(), status)
    }

    #[test]
    fn the_latest_term_goes_before_the_longest_log() {
        let (a, b, c) = (told("a", 3, 900), told("b", 4, 700), told("c", 4, 650));
        let plan = plan(&[a.clone(), b.clone(), c.clone(), b.clone()]).unwrap();
        assert_eq!(plan, Plan { survivor: b, joining: vec![a, c] });
    }

    #[test]
    fn nothing_is_recovered_that_works_or_is_not_there() {
        let with = |change: fn(&mut GetEtcdStatusResponse)| {
            let (node, mut status) = told("a", 3, 900);
            change(&mut status);
            plan(&[(node, status), told("b", 2, 1)]).unwrap_err().to_string()
        };
        assert!(with(|status| status.quorum = true).contains("nothing is to be recovered"));
        assert!(with(|status| status.cluster_id = "d".to_owned()).contains("of another cluster"));
        let empty = ("a".parse::<machine::config::Host>().unwrap(), GetEtcdStatusResponse::default());
        let node = HostPort { host: empty.0, port: api::PORT };
        assert!(plan(&[(node, empty.1)]).unwrap_err().to_string().contains("restore a snapshot"));
    }

    #[test]
    fn a_learner_never_goes_on_alone() {
        let (node, mut status) = told("a", 9, 900);
        status.learner = true;
        let learner = (node, status);
        let plan = plan(&[learner.clone(), told("b", 3, 9)]).unwrap();
        assert_eq!(plan, Plan { survivor: told("b", 3, 9), joining: vec![learner] });
    }
}
