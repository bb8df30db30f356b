//! Has the cluster know this machine, and keeps on STATE how far it has come.

use anyhow::Context;
use controlplane::pki::CertificateId;

use super::plan::{Action, Change};
use crate::clock::wall_seconds;
use crate::controllers::pki::Keyring;
use crate::etcd::members::{self, Promotion};
use crate::etcd::{Access, access};
use crate::node::Node;
use crate::resources::bootstrap::{self, Bootstrap};

/// What came of an action.
#[derive(Debug)]
pub enum Applied {
    Promotion(Promotion),
    Other,
}

pub async fn apply(action: Action, node: &Node, keyring: &mut Keyring) -> anyhow::Result<Applied> {
    match action {
        Action::Publish(table) => {
            node.store.replace(table);
            Ok(Applied::Other)
        }
        Action::Change { server, change } => ask(&server, change, node, keyring).await,
        Action::Record(record) => {
            let known = node.store.get::<Bootstrap>(Bootstrap::NAME);
            let (at, by) = known.map_or_else(|| (wall_seconds(), "itself".to_owned()), |known| (known.at, known.by));
            bootstrap::save(node, &Bootstrap { record, at, by })?;
            Ok(Applied::Other)
        }
    }
}

async fn ask(server: &str, change: Change, node: &Node, keyring: &mut Keyring) -> anyhow::Result<Applied> {
    let config = node.config().context("the machine has no config any more")?.config;
    let certificate = keyring.get(node, CertificateId::EtcdHealthClient).context("the agent has no certificate for etcd any more")?;
    let access = Access { server, ..access(&config, &certificate) };
    let (reason, message) = match change {
        Change::Add(peer_url) => {
            let id = members::add_learner(access, &peer_url).await?;
            ("Added", format!("etcd knows this machine as learner {id} at {peer_url}"))
        }
        Change::Remove(id) => {
            members::remove(access, id).await?;
            ("Removed", format!("etcd forgets member {id}, which was this machine's: its data is gone"))
        }
        Change::Move(id, peer_url) => {
            members::update(access, id, &peer_url).await?;
            ("Moved", format!("the other members reach member {id} at {peer_url}"))
        }
        Change::Promote(id) => match members::promote(access, id).await? {
            Promotion::NotYet(words) => return Ok(Applied::Promotion(Promotion::NotYet(words))),
            Promotion::Done => {
                node.events.emit("service/etcd", "Promoted", format!("member {id} has a vote"));
                return Ok(Applied::Promotion(Promotion::Done));
            }
        },
    };
    node.events.emit("service/etcd", reason, message);
    Ok(Applied::Other)
}
