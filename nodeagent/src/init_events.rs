//! Puts what init tells on the board: services, volumes, and what it did at boot.

use std::convert::Infallible;
use std::time::Duration;

use machine::protocol::{Event, VolumeStatus};
use machine::service::{ServiceState, ServiceStatus};

use crate::node::Node;
use crate::resources::services::volume_name;

/// How long to wait before init is asked again: it closes connections only when it is on its way down, or broken.
const RECONNECT: Duration = Duration::from_secs(1);

/// Follows init for as long as the agent lives.
pub async fn follow(node: Node) {
    loop {
        let Err(error) = listen(&node).await;
        tracing::warn!("{error:#}");
        tokio::time::sleep(RECONNECT).await;
    }
}

/// One round of questions: what init has now. The agent starts with it, so that it knows its volumes before it decides anything.
pub async fn ask(node: &Node) -> anyhow::Result<()> {
    for volume in node.init.volumes().await? {
        put_volume(node, &volume);
    }
    let services = node.init.services().await?;
    node.store.replace(services.into_iter().map(|service| (service.id.to_string(), service)));
    let facts = node.init.boot_facts().await?;
    node.store.put(&facts.boot_id.clone(), &facts);
    Ok(())
}

async fn listen(node: &Node) -> anyhow::Result<Infallible> {
    // First the subscription, then the questions: no change falls between the two.
    let mut events = node.init.subscribe().await?;
    ask(node).await?;
    loop {
        match events.next().await? {
            Event::Service(status) => put_service(node, &status),
            Event::ServiceRemoved(id) => {
                node.store.remove::<ServiceStatus>(id.as_str());
                node.events.emit(format!("service/{id}"), "Removed", "the service is not wanted any more");
            }
            Event::Volume(status) => put_volume(node, &status),
        }
    }
}

fn put_service(node: &Node, status: &ServiceStatus) {
    let before = node.store.get::<ServiceStatus>(status.id.as_str());
    node.store.put(status.id.as_str(), status);
    let moved = before.is_none_or(|before| std::mem::discriminant(&before.state) != std::mem::discriminant(&status.state));
    if moved && let Some((reason, message)) = told(status) {
        node.events.emit(format!("service/{}", status.id), reason, message);
    }
}

/// What users are told of a service's new state.
fn told(status: &ServiceStatus) -> Option<(&'static str, String)> {
    let exit = status.last_exit.map(|exit| format!(" ({exit})")).unwrap_or_default();
    match &status.state {
        ServiceState::Stopped => Some(("Stopped", "stopped on request".to_owned())),
        ServiceState::Waiting { .. } | ServiceState::Stopping => None,
        ServiceState::Starting => Some(("Started", status.pid.map(|pid| format!("process {pid}")).unwrap_or_default())),
        ServiceState::Ready => Some(("Ready", "ready".to_owned())),
        ServiceState::Backoff { retry_in } => Some(("Failed", format!("ended{exit}, starts again in {} ms", retry_in.as_millis()))),
        ServiceState::Ended => Some(("Ended", format!("ended{exit}"))),
    }
}

fn put_volume(node: &Node, status: &VolumeStatus) {
    node.store.put(&volume_name(status.volume), status);
}
