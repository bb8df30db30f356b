//! Carries a program's actions out.

use anyhow::Context;
use machine::service::ServiceSpec;

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
        Action::RemoveService(id) => {
            node.init.remove_service(id.clone()).await.with_context(|| format!("removing service {id}"))?;
            node.store.remove::<ServiceSpec>(id.as_str());
            Ok(())
        }
    }
}
