//! Follows what the API server has, for as long as the agent lives: a list and a watch, and both again whenever the server or the connection
//! ends them.

mod lines;
#[cfg(test)]
mod real;
mod streamed;

use std::time::Duration;

use anyhow::Context;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::machine::Machine;
use crate::node::Node;
#[cfg(test)]
pub use lines::Lines;
pub use streamed::Streamed;
#[cfg(test)]
pub use streamed::uri;

/// Something to follow.
pub trait Watch: Send {
    /// For the log.
    const WHAT: &'static str;
    /// Between two tries; it doubles up to the longest, which is also how long a watch has to hold to be one that holds.
    const SHORTEST_PAUSE: Duration;
    const LONGEST_PAUSE: Duration;

    /// Whether the machine can ask now; it is looked at again when the board changes.
    fn permitted(node: &Node, machine: &Machine) -> bool;

    /// Lists, and then watches until the server or the connection ends it.
    fn watch(&mut self, node: &Node, machine: &Machine) -> impl Future<Output = anyhow::Result<()>> + Send;
}

pub async fn follow<W: Watch>(mut watch: W, node: Node) {
    let mut pause = W::SHORTEST_PAUSE;
    loop {
        let machine = prepared::<W>(&node).await;
        let began = Instant::now();
        if let Err(error) = watch.watch(&node, &machine).await {
            tracing::debug!("following {}: {error:#}", W::WHAT);
        }
        // The server ends each watch after some minutes, and then is asked again at once; one that does not hold is asked less and less.
        pause = if began.elapsed() > W::LONGEST_PAUSE { W::SHORTEST_PAUSE } else { (pause * 2).min(W::LONGEST_PAUSE) };
        tokio::time::sleep(pause).await;
    }
}

/// Objects in one answer of a list.
const PAGE: u32 = 500;

/// Hands out all of a list, page by page, and tells where a watch has to begin.
pub async fn list<K>(api: &Api<K>, params: ListParams, mut take: impl FnMut(K)) -> kube::Result<String>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = params.limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(page.metadata.resource_version.unwrap_or_default()),
        }
    }
}

/// All of a list at once, and where a watch has to begin.
pub async fn all<K>(api: &Api<K>, params: ListParams) -> kube::Result<(Vec<K>, String)>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut objects = Vec::new();
    let from = list(api, params, |object| objects.push(object)).await?;
    Ok((objects, from))
}

/// What became of an object since it was listed.
#[derive(Debug)]
pub enum Change<K> {
    /// It is new, or came into the selection.
    Added(K),
    Modified(K),
    /// It is gone, or left the selection; as it was last.
    Deleted(K),
}

/// What changes after a list, until the server or the connection ends it. An error that the server sends as an event is one of the stream.
pub async fn changes<K>(api: &Api<K>, params: WatchParams, from: &str) -> anyhow::Result<BoxStream<'static, anyhow::Result<Change<K>>>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let events = api.watch(&params, from).await.context("watching")?;
    let changes = events.try_filter_map(async |event| change(event));
    Ok(changes.map(|change| change.context("watching")).boxed())
}

/// None for an event that says only how far the server is.
fn change<K>(event: WatchEvent<K>) -> kube::Result<Option<Change<K>>> {
    match event {
        WatchEvent::Added(object) => Ok(Some(Change::Added(object))),
        WatchEvent::Modified(object) => Ok(Some(Change::Modified(object))),
        WatchEvent::Deleted(object) => Ok(Some(Change::Deleted(object))),
        WatchEvent::Bookmark(_) => Ok(None),
        WatchEvent::Error(status) => Err(kube::Error::Api(status)),
    }
}

/// All of a list and what changes after it, in as few bytes as the server can. `fields` chooses objects; empty for all.
pub async fn all_and_changes<K>(api: &Api<K>, fields: &str) -> anyhow::Result<Streamed<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    if let Some(streamed) = streamed::streamed(api, fields).await? {
        return Ok(streamed);
    }
    let (listed, from) = all(api, ListParams::default().fields(fields)).await.context("listing")?;
    let changes = changes(api, WatchParams::default().fields(fields), &from).await?;
    Ok((listed, changes))
}

async fn prepared<W: Watch>(node: &Node) -> Machine {
    let mut board = node.store.revision();
    loop {
        board.mark_unchanged();
        match Machine::observe(node) {
            Ok(machine) if W::permitted(node, &machine) => return machine,
            // The board is closed only when the agent ends, and this task with it.
            _ => drop(board.changed().await),
        }
    }
}
