//! All of a list and what changes after it as one stream (WatchList): who asks for it so is given it packed by an API server of Kubernetes 1.37 and later, which
//! never packs the changes after a list. It ends after half an hour at the soonest, where kube's own watches ask to be ended after five minutes, and the list is sent again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::Api;
use kube::api::WatchEvent;
use kube::client::Body;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::lines::Lines;
use super::{Change, change};

/// The server says about once a minute where it is, whether anything changes or not: one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(300);
/// Of the bookmark that ends the list.
const LIST_ENDS: &str = "k8s.io/initial-events-end";
const PACKED: &str = "gzip";

/// What a list has, and what changes after it.
pub type Streamed<K> = (Vec<K>, BoxStream<'static, anyhow::Result<Change<K>>>);

/// `None` where the server knows no such streams. `fields` chooses objects; empty for all.
pub async fn streamed<K>(api: &Api<K>, fields: &str) -> anyhow::Result<Option<Streamed<K>>>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let request = Request::get(uri(api.resource_url(), fields)).header(ACCEPT_ENCODING, PACKED).body(Body::empty())?;
    let answer = api.clone().into_client().send(request).await.context("asking for a list and its changes")?;
    match answer.status() {
        status if status.is_success() => {}
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => return Ok(None),
        status => bail!("asking for a list and its changes: {status}"),
    }
    let is_packed = answer.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding == PACKED);
    let source = Source { body: answer.into_body(), lines: Lines::new(is_packed), ready: VecDeque::new() };
    let mut events = stream::try_unfold(source, next::<K>).boxed();
    let listed = listed(&mut events).await?;
    let changes = events.try_filter_map(async |event| change(event).map_err(anyhow::Error::from));
    Ok(Some((listed, changes.boxed())))
}

/// The question for such a stream.
pub fn uri(url: &str, fields: &str) -> String {
    let url = format!("{url}?");
    let start = url.len();
    let mut query = form_urlencoded::Serializer::for_suffix(url, start);
    query.append_pair("watch", "true").append_pair("allowWatchBookmarks", "true");
    // All that there is now, and from then on.
    query.append_pair("sendInitialEvents", "true").append_pair("resourceVersionMatch", "NotOlderThan").append_pair("resourceVersion", "");
    if !fields.is_empty() {
        query.append_pair("fieldSelector", fields);
    }
    query.finish()
}

struct Source {
    body: Body,
    lines: Lines,
    /// Lines that are not read yet.
    ready: VecDeque<Vec<u8>>,
}

async fn next<K: DeserializeOwned>(mut source: Source) -> anyhow::Result<Option<(WatchEvent<K>, Source)>> {
    loop {
        if let Some(line) = source.ready.pop_front() {
            return Ok(Some((serde_json::from_slice(&line).context("reading a change")?, source)));
        }
        let frame = timeout(SILENCE, source.body.frame()).await.context("watching: the server is silent")?;
        let Some(frame) = frame else { return Ok(None) };
        if let Ok(piece) = frame.context("watching")?.into_data() {
            source.ready.extend(source.lines.take(&piece).context("watching")?);
        }
    }
}

/// What there is once the list ends. Changes may come before that, to what was listed already.
async fn listed<K>(events: &mut BoxStream<'static, anyhow::Result<WatchEvent<K>>>) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()>,
{
    let key = |object: &K| (object.meta().namespace.clone(), object.meta().name.clone());
    let mut objects = BTreeMap::new();
    while let Some(event) = events.try_next().await? {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => drop(objects.insert(key(&object), object)),
            WatchEvent::Deleted(object) => drop(objects.remove(&key(&object))),
            WatchEvent::Bookmark(mark) if mark.metadata.annotations.get(LIST_ENDS).is_some_and(|ends| ends == "true") => {
                return Ok(objects.into_values().collect());
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)).context("listing"),
        }
    }
    bail!("listing: the server ended it")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};

    use super::*;

    fn events(events: &[(&str, Value)]) -> BoxStream<'static, anyhow::Result<WatchEvent<ConfigMap>>> {
        let read = |(kind, object): &(&str, Value)| serde_json::from_value(json!({ "type": kind, "object": object })).context("an event");
        stream::iter(events.iter().map(read).collect::<Vec<_>>()).boxed()
    }

    fn object(name: &str, version: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "resourceVersion": version } })
    }

    fn bookmark(ends: bool) -> (&'static str, Value) {
        let annotations = if ends { json!({ LIST_ENDS: "true" }) } else { json!({}) };
        ("BOOKMARK", json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "resourceVersion": "7", "annotations": annotations } }))
    }

    #[tokio::test]
    async fn a_list_is_what_there_is_at_its_end() {
        let mut all = events(&[
            ("ADDED", object("a", "1")),
            ("ADDED", object("b", "2")),
            bookmark(false),
            ("MODIFIED", object("a", "3")),
            ("DELETED", object("b", "4")),
            bookmark(true),
            ("ADDED", object("c", "5")),
        ]);
        let listed = listed(&mut all).await.unwrap();
        let told: Vec<_> = listed.into_iter().map(|object| (object.metadata.name, object.metadata.resource_version)).collect();
        assert_eq!(told, [(Some("a".to_owned()), Some("3".to_owned()))]);
        let after = all.try_next().await.unwrap();
        assert!(matches!(&after, Some(WatchEvent::Added(object)) if object.metadata.name.as_deref() == Some("c")), "{after:?}");
    }

    #[tokio::test]
    async fn a_list_without_an_end_is_none() {
        let said = listed(&mut events(&[("ADDED", object("a", "1")), bookmark(false)])).await.unwrap_err();
        assert_eq!(said.to_string(), "listing: the server ended it");
        let gone = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "too old", "reason": "Expired", "code": 410 });
        let said = listed(&mut events(&[("ERROR", gone)])).await.unwrap_err();
        assert!(format!("{said:#}").contains("too old"), "{said:#}");
    }

    #[test]
    fn the_question_names_the_fields() {
        let expected =
            "/api/v1/nodes?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=";
        assert_eq!(uri("/api/v1/nodes", ""), expected);
        assert_eq!(uri("/api/v1/nodes", "metadata.name=a"), format!("{expected}&fieldSelector=metadata.name%3Da"));
    }
}
