//! Service Resource: the board, as clients see it.

use std::collections::BTreeMap;

use api::json::to_struct;
use api::v1::resource_server;
use api::v1::watch_resources_response::Change as Happened;
use api::v1::{
    Column, GetResourceRequest, GetResourceResponse, Kind, ListKindsRequest, ListKindsResponse, ListResourcesRequest,
    ListResourcesResponse, Object, WatchResourcesRequest, WatchResourcesResponse,
};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::config::is_admin;
use super::stream::{Answers, Ended, Gone, Sink, answer};
use crate::asked;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::kinds::{self, KINDS};
use crate::store::{self, Change};

#[derive(Debug)]
pub struct Resource(pub Node);

#[tonic::async_trait]
impl resource_server::Resource for Resource {
    async fn list_kinds(&self, _: Request<ListKindsRequest>) -> Result<Response<ListKindsResponse>, Status> {
        Ok(Response::new(ListKindsResponse { kinds: KINDS.iter().map(kind).collect() }))
    }

    async fn list(&self, request: Request<ListResourcesRequest>) -> Result<Response<ListResourcesResponse>, Status> {
        let kind = permitted_kind(&request.get_ref().kind, is_admin(&request))?;
        let objects = self.objects(kind).await?.into_iter().map(object).collect();
        Ok(Response::new(ListResourcesResponse { objects }))
    }

    async fn get(&self, request: Request<GetResourceRequest>) -> Result<Response<GetResourceResponse>, Status> {
        let kind = permitted_kind(&request.get_ref().kind, is_admin(&request))?;
        let name = request.into_inner().name;
        let found = self.objects(kind).await?.into_iter().find(|object| object.name == name);
        let found =
            found.ok_or_else(|| Refusal::not_found(format!("{kind}/{name}"), format!("see what there is: machinectl get {kind}")))?;
        Ok(Response::new(GetResourceResponse { object: Some(object(found)) }))
    }

    type WatchStream = Answers<WatchResourcesResponse>;

    async fn watch(&self, request: Request<WatchResourcesRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let kind = permitted_kind(&request.get_ref().kind, is_admin(&request))?;
        if asked::is_asked(kind) {
            let problem = format!("{kind} are not watched: the kernel is asked for them each time");
            return Err(Refusal::state("NOT_WATCHED", problem, format!("ask again: machinectl get {kind}")).into());
        }
        let (node, name) = (self.0.clone(), request.into_inner().name);
        Ok(Response::new(answer(|sink| Watch { node, kind, name, sink, sent: BTreeMap::new() }.run())))
    }
}

impl Resource {
    async fn objects(&self, kind: &'static str) -> Result<Vec<store::Object>, Refusal> {
        Ok(match asked::objects(&self.0, kind).await? {
            Some(objects) => objects,
            None => self.0.store.list(kind),
        })
    }
}

/// One watcher: what it was sent, by name and revision, so that one who fell behind gets what it missed and no more.
struct Watch {
    node: Node,
    kind: &'static str,
    /// Empty: all objects.
    name: String,
    sink: Sink<WatchResourcesResponse>,
    sent: BTreeMap<String, store::Object>,
}

impl Watch {
    async fn run(mut self) -> Result<(), Ended> {
        let mut synced = false;
        loop {
            let (listed, mut changes) = self.node.store.watch(self.kind);
            self.catch_up(listed).await?;
            if !synced {
                self.send(Happened::Synced, None).await?;
                synced = true;
            }
            loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    gone = self.sink.gone() => return Err(gone.into()),
                };
                match change {
                    Ok(Change::Put(object)) => self.put(object).await?,
                    Ok(Change::Removed(object)) => self.removed(object).await?,
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        }
    }

    /// What a full list tells that was not sent yet.
    async fn catch_up(&mut self, listed: Vec<store::Object>) -> Result<(), Gone> {
        let gone: Vec<store::Object> =
            self.sent.values().filter(|sent| !listed.iter().any(|object| object.name == sent.name)).cloned().collect();
        for object in gone {
            self.removed(object).await?;
        }
        for object in listed {
            self.put(object).await?;
        }
        Ok(())
    }

    async fn put(&mut self, object: store::Object) -> Result<(), Gone> {
        let known = self.sent.get(&object.name).is_some_and(|sent| sent.revision >= object.revision);
        if known || !self.concerns(&object) {
            return Ok(());
        }
        self.sent.insert(object.name.clone(), store::Object { value: Value::Null, ..object.clone() });
        self.send(Happened::Put, Some(object)).await
    }

    async fn removed(&mut self, object: store::Object) -> Result<(), Gone> {
        if !self.concerns(&object) || self.sent.remove(&object.name).is_none() {
            return Ok(());
        }
        self.send(Happened::Removed, Some(object)).await
    }

    fn concerns(&self, object: &store::Object) -> bool {
        object.kind == self.kind && (self.name.is_empty() || self.name == object.name)
    }

    async fn send(&self, change: Happened, changed: Option<store::Object>) -> Result<(), Gone> {
        self.sink.send(WatchResourcesResponse { change: change.into(), object: changed.map(object) }).await
    }
}

/// A kind that there is and that the caller may see.
fn permitted_kind(name: &str, admin: bool) -> Result<&'static str, Refusal> {
    let unknown = || Refusal::not_found(format!("kind {name:?}"), "see the kinds there are: machinectl get kinds");
    let kind = kinds::find(name).ok_or_else(unknown)?;
    if kind.sensitive && !admin {
        let problem = format!("{} are shown to admins only", kind.name);
        return Err(Refusal::NotPermitted { problem, remedy: "use a client certificate of role os:admin".to_owned() });
    }
    Ok(kind.name)
}

fn kind(kind: &kinds::Kind) -> Kind {
    let column = |(heading, path): &(&str, &str)| Column { heading: (*heading).to_owned(), path: (*path).to_owned() };
    Kind {
        name: kind.name.to_owned(),
        description: kind.description.to_owned(),
        columns: kind.columns.iter().map(column).collect(),
        sensitive: kind.sensitive,
    }
}

/// An object in the half that its kind says: what is wanted, or what is seen.
fn object(from: store::Object) -> Object {
    let fields = match from.value {
        Value::Object(fields) => fields,
        other => [("value".to_owned(), other)].into_iter().collect(),
    };
    let wanted = kinds::find(from.kind).is_some_and(|kind| kind.wanted);
    let half = Some(to_struct(fields));
    let (spec, status) = if wanted { (half, None) } else { (None, half) };
    Object { kind: from.kind.to_owned(), name: from.name, revision: from.revision, spec, status }
}
