//! Applies manifests as a short-lived super-user: before they are there, nobody has a role.

use anyhow::Context;

use super::plan::Action;
use crate::controllers::api::super_user;
use crate::node::Node;
use crate::resources::bootstrap;
use crate::resources::cluster::ManifestStatus;

pub async fn apply(action: Action, node: &Node) -> anyhow::Result<()> {
    match action {
        Action::Apply { manifests, status } => {
            let config = node.config().context("the machine has no config any more")?.config;
            super_user(&config)?.apply(&manifests).await.context("applying the cluster's manifests")?;
            node.store.put(ManifestStatus::NAME, &status);
            Ok(())
        }
        Action::Complete(record) => bootstrap::save(node, &record),
    }
}
