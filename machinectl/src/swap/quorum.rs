//! Whether etcd keeps its quorum while a control plane is away.

use api::v1::{GetHealthRequest, GetVersionRequest};
use machine::config::{HostPort, Role};
use machine::version::Minor;
use tokio_stream::StreamExt;

use super::standing::Standing;
use super::way::Way;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::session::Session;
use crate::verbs::QUICK;

/// A control plane that may hold a member of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Names the machine, however it is called; none for one that does not answer.
    pub boot_id: Option<String>,
    /// Of its API server; none where it is not known.
    pub kubernetes: Option<Minor>,
    /// What is wrong with its etcd, with the machine's name; none if it is healthy.
    pub trouble: Option<String>,
}

/// What becomes of etcd without one of the control planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quorum {
    /// There is no other one.
    Alone,
    Kept {
        members: usize,
        remaining: usize,
    },
    Lost {
        members: usize,
        remaining: usize,
        troubles: Vec<String>,
    },
}

impl Peer {
    /// Asks the machine APIs of control planes; one that cannot be reached from here is asked through those that can. One that does not answer
    /// so either counts as a member that is away.
    pub async fn ask(connection: &Connection) -> Result<Vec<Peer>, Failure> {
        let mut answers = connection.each(QUICK, async |session| ask(&session).await).await?;
        let passing = answers.done.iter().filter(|(_, peer)| peer.is_some()).map(|(node, _)| node.clone()).collect();
        let silent = connection.nodes.iter().filter(|node| answers.done.iter().all(|(done, _)| done != *node)).cloned().collect();
        if let Some(through) = connection.through(passing, silent) {
            let passed_on = through.each(QUICK, async |session| ask(&session).await).await?;
            answers.done.extend(passed_on.done);
            answers.failed = passed_on.failed;
        }
        // Without its remedy: that is for whoever meant to call that machine.
        let trouble = |failure: Failure| failure.remedy("").to_string();
        let silent = answers.failed.into_iter().map(|failure| Peer { boot_id: None, kubernetes: None, trouble: Some(trouble(failure)) });
        Ok(answers.done.into_iter().filter_map(|(_, peer)| peer).chain(silent).collect())
    }
}

/// None for a machine without etcd: an endpoint may be any machine.
async fn ask(session: &Session) -> Result<Option<Peer>, Failure> {
    let version = session.ask(session.machine().get_version(GetVersionRequest {})).await?;
    if version.kubernetes.is_empty() || Standing::ask(session, &version).await?.role != Role::ControlPlane {
        return Ok(None);
    }
    let mut reports = session.ask(session.machine().get_health(GetHealthRequest { wait: None })).await?;
    let mut last = None;
    while let Some(report) = reports.next().await {
        last = Some(report.map_err(|status| session.failed(&status))?);
    }
    let check = last.and_then(|report| report.checks.into_iter().find(|check| check.name == "etcd"));
    let trouble = match check {
        Some(check) if check.passed => None,
        Some(check) => Some(format!("{}: etcd: {}", session.node, check.message)),
        None => Some(format!("{}: its health says nothing of etcd", session.node)),
    };
    Ok(Some(Peer { kubernetes: version.kubernetes.parse().ok(), boot_id: Some(version.boot_id), trouble }))
}

impl Quorum {
    /// Without the machine of that boot.
    pub fn without(boot_id: &str, peers: &[Peer]) -> Quorum {
        let mut others: Vec<&Peer> = Vec::new();
        for peer in peers.iter().filter(|peer| peer.boot_id.as_deref() != Some(boot_id)) {
            // One machine may be known by several addresses; those that do not answer cannot be told apart.
            if peer.boot_id.is_none() || others.iter().all(|other| other.boot_id != peer.boot_id) {
                others.push(peer);
            }
        }
        let members = others.len() + 1;
        let remaining = others.iter().filter(|peer| peer.trouble.is_none()).count();
        match remaining {
            _ if others.is_empty() => Quorum::Alone,
            _ if remaining > members / 2 => Quorum::Kept { members, remaining },
            _ => Quorum::Lost { members, remaining, troubles: others.into_iter().filter_map(|peer| peer.trouble.clone()).collect() },
        }
    }

    /// What is told of it; refused if quorum is lost, unless that is meant.
    pub fn accepted(&self, node: &HostPort, way: &Way) -> Result<String, Failure> {
        match self {
            Quorum::Alone => Ok("the only control plane: the Kubernetes API is away until it is back".to_owned()),
            Quorum::Kept { members, remaining } => Ok(format!("etcd keeps its quorum without it: {remaining} of {members} members")),
            Quorum::Lost { members, remaining, .. } if way.without_quorum => {
                Ok(format!("etcd loses its quorum: {remaining} of {members} members remain; the Kubernetes API is away until it is back"))
            }
            Quorum::Lost { members, remaining, troubles } => {
                let needed = members / 2 + 1;
                let problem =
                    format!("etcd would lose its quorum without it: {remaining} of {members} members remain, {needed} are needed");
                let problems = [vec![problem], troubles.clone()].concat();
                let remedy = "repair the others first, or accept with --without-quorum that the Kubernetes API is away meanwhile";
                Err(Failure { problems, ..Failure::new(node, "") }.remedy(remedy))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(boot_id: &str, healthy: bool) -> Peer {
        Peer { boot_id: Some(boot_id.to_owned()), kubernetes: None, trouble: (!healthy).then(|| format!("{boot_id}: not started")) }
    }

    fn silent() -> Peer {
        Peer { boot_id: None, kubernetes: None, trouble: Some("c: no route".to_owned()) }
    }

    #[test]
    fn a_majority_of_all_members_must_remain() {
        let (a, b, c) = (peer("a", true), peer("b", true), peer("c", true));
        let lost = |members, remaining, trouble: &str| Quorum::Lost {
            members,
            remaining,
            troubles: (!trouble.is_empty()).then(|| trouble.to_owned()).into_iter().collect(),
        };
        for (peers, expected) in [
            (vec![a.clone()], Quorum::Alone),
            (vec![], Quorum::Alone),
            (vec![a.clone(), b.clone()], lost(2, 1, "")),
            (vec![a.clone(), b.clone(), c.clone()], Quorum::Kept { members: 3, remaining: 2 }),
            // Whether the machine itself is healthy does not matter: it is what goes away.
            (vec![peer("a", false), b.clone(), c.clone()], Quorum::Kept { members: 3, remaining: 2 }),
            (vec![a.clone(), b.clone(), peer("c", false)], lost(3, 1, "c: not started")),
            (vec![a.clone(), b.clone(), silent()], lost(3, 1, "c: no route")),
            // By another address.
            (vec![a.clone(), a.clone(), b.clone(), b.clone(), c.clone()], Quorum::Kept { members: 3, remaining: 2 }),
            (vec![a, b, c, peer("d", true), silent()], Quorum::Kept { members: 5, remaining: 3 }),
        ] {
            assert_eq!(Quorum::without("a", &peers), expected, "{peers:?}");
        }
    }
}
