//! Service Log: logs of services and containers, the kernel's, and events.

use std::collections::VecDeque;
use std::io;

use api::v1::log_server;
use api::v1::stream_request::Source;
use api::v1::{DmesgRequest, DmesgResponse, Event, EventsRequest, EventsResponse, StreamRequest, StreamResponse};
use machine::service::ServiceId;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Sink, answer};
use crate::events;
use crate::logs::kmsg::Kmsg;
use crate::logs::{Chunks, Layout, Wait};
use crate::node::Node;
use crate::refusal::Refusal;

#[derive(Debug)]
pub struct Log(pub Node);

#[tonic::async_trait]
impl log_server::Log for Log {
    type StreamStream = Answers<StreamResponse>;

    async fn stream(&self, request: Request<StreamRequest>) -> Result<Response<Self::StreamStream>, Status> {
        let StreamRequest { source, follow, tail } = request.into_inner();
        let layout = self.layout(source)?;
        let tail = tail.map(|lines| lines as usize);
        Ok(Response::new(answer(|sink| stream(layout, follow, tail, sink))))
    }

    type DmesgStream = Answers<DmesgResponse>;

    async fn dmesg(&self, request: Request<DmesgRequest>) -> Result<Response<Self::DmesgStream>, Status> {
        let DmesgRequest { follow, tail } = request.into_inner();
        let kmsg = Kmsg::open(&self.0.root.path("/dev/kmsg")).map_err(Refusal::from)?;
        Ok(Response::new(answer(|sink| dmesg(kmsg, follow, tail.map(|lines| lines as usize), sink))))
    }

    type EventsStream = Answers<EventsResponse>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let EventsRequest { follow, tail } = request.into_inner();
        let from = tail.map_or(0, |count| self.0.events.tail(count as usize));
        let node = self.0.clone();
        Ok(Response::new(answer(|sink| tell_events(node, from, follow, sink))))
    }
}

impl Log {
    /// The log that is asked for; refused if there is none.
    fn layout(&self, source: Option<Source>) -> Result<Layout, Refusal> {
        let root = &self.0.root;
        let (layout, what, remedy) = match source {
            None => return Err(Refusal::field("source", "nothing; expected service or container")),
            Some(Source::Service(id)) => {
                let id = ServiceId::new(&id).map_err(|error| Refusal::field("service", error.to_string()))?;
                (
                    Some(Layout::service(root, id.as_str())),
                    format!("a log of service {id}"),
                    "see the services there are: machinectl services",
                )
            }
            Some(Source::Container(of)) => {
                for (field, name) in [("namespace", &of.namespace), ("pod", &of.pod), ("container", &of.container)] {
                    plain(field, name)?;
                }
                let what = format!("a log of container {}/{}/{}", of.namespace, of.pod, of.container);
                (
                    Layout::container(root, &of.namespace, &of.pod, &of.container),
                    what,
                    "see the pods on this machine: kubectl get pods -A -o wide",
                )
            }
        };
        layout.filter(|layout| !layout.files().is_empty()).ok_or_else(|| Refusal::not_found(what, remedy))
    }
}

/// A name that is one part of a path.
fn plain(field: &str, name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !name.is_empty() && name != "." && name != ".." && name.chars().all(legal) {
        return Ok(());
    }
    Err(Refusal::field(&format!("container.{field}"), format!("{name:?}; expected a name as Kubernetes has it")))
}

async fn stream(layout: Layout, follow: bool, tail: Option<usize>, sink: Sink<StreamResponse>) -> Result<(), Ended> {
    let wait = Wait::new()?;
    wait.watch(&layout.directories())?;
    let mut chunks = Chunks::begin(layout.clone(), tail, follow)?;
    loop {
        let (reader, lines) = tokio::task::spawn_blocking(move || next(chunks)).await.map_err(anyhow::Error::from)??;
        chunks = reader;
        match lines {
            Some(lines) => sink.send(StreamResponse { lines }).await?,
            None if !follow => return Ok(()),
            None => {
                // A directory may have been made since the last look.
                wait.watch(&layout.directories())?;
                tokio::select! {
                    happened = wait.happened() => happened?,
                    gone = sink.gone() => return Err(gone.into()),
                }
            }
        }
    }
}

fn next(mut chunks: Chunks) -> io::Result<(Chunks, Option<Vec<u8>>)> {
    let lines = chunks.next()?;
    Ok((chunks, lines))
}

async fn dmesg(kmsg: Kmsg, follow: bool, tail: Option<usize>, sink: Sink<DmesgResponse>) -> Result<(), Ended> {
    let mut last = VecDeque::new();
    while let Some(line) = kmsg.next()? {
        match tail {
            None => sink.send(DmesgResponse { line }).await?,
            Some(count) => {
                last.push_back(line);
                if last.len() > count {
                    last.pop_front();
                }
            }
        }
    }
    for line in last {
        sink.send(DmesgResponse { line }).await?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::select! {
            line = kmsg.wait() => sink.send(DmesgResponse { line: line? }).await?,
            gone = sink.gone() => return Err(gone.into()),
        }
    }
}

async fn tell_events(node: Node, mut from: u64, follow: bool, sink: Sink<EventsResponse>) -> Result<(), Ended> {
    let mut newest = node.events.newest();
    loop {
        newest.mark_unchanged();
        while let Some(event) = node.events.next(from) {
            from = event.number + 1;
            sink.send(EventsResponse { event: Some(proto(event)) }).await?;
        }
        if !follow {
            return Ok(());
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() { return Ok(()) },
            gone = sink.gone() => return Err(gone.into()),
        }
    }
}

/// As the API tells it.
pub fn proto(event: events::Event) -> Event {
    let at = event.at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp { seconds: at.as_secs() as i64, nanos: at.subsec_nanos() as i32 };
    Event { at: Some(at), subject: event.subject, reason: event.reason.to_owned(), message: event.message }
}
