//! Carries a program's actions out.

use anyhow::Context;
use machine::service::{ServiceId, ServiceSpec};

use super::Action;
use crate::files;
use crate::node::Node;

pub async fn apply(action: Action, node: &Node) -> anyhow::Result<()> {
    match action {
        Action::WriteFile(file) => files::write_if_changed(&file).map(drop),
        Action::PutService(spec) => {
            node.init.put_service((*spec).clone()).await.with_context(|| format!("putting service {}", spec.id))?;
            node.store.put(spec.id.as_str(), &*spec);
            Ok(())
        }
        Action::RemoveService(id) => remove(id, node).await,
    }
}

/// Has init end a service and forget it. Its end comes later, and goes over the board.
pub async fn remove(id: ServiceId, node: &Node) -> anyhow::Result<()> {
    node.init.remove_service(id.clone()).await.with_context(|| format!("removing service {id}"))?;
    node.store.remove::<ServiceSpec>(id.as_str());
    Ok(())
}
