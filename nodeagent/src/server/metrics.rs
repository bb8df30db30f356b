//! Service Metrics: what the machine, its services, pods and containers use.

use std::time::Duration;

use api::v1::metrics_server;
use api::v1::{StreamMetricsRequest, StreamMetricsResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Gone, Sink, answer};
use crate::refusal::Refusal;
use crate::usage::{Telling, Usage};

#[derive(Debug)]
pub struct Metrics(pub Usage);

/// Nobody asks for figures older than this.
const LONGEST: Duration = Duration::from_secs(3600);
/// Nobody has to know sooner that a machine is there.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);

/// When a client is told something.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// From one answer to the next, at least.
    interval: Duration,
    /// After which silence it is told that the machine is there.
    heartbeat: Option<Duration>,
}

#[tonic::async_trait]
impl metrics_server::Metrics for Metrics {
    type StreamStream = Answers<StreamMetricsResponse>;

    async fn stream(&self, request: Request<StreamMetricsRequest>) -> Result<Response<Self::StreamStream>, Status> {
        let asked = asked(request.get_ref())?;
        let (usage, telling) = (self.0.clone(), Telling::new(request.get_ref()));
        Ok(Response::new(answer(move |sink| follow(usage, asked, telling, sink))))
    }
}

fn asked(request: &StreamMetricsRequest) -> Result<Asked, Refusal> {
    let interval = duration("interval", request.interval, Duration::ZERO, "0 s")?.unwrap_or_default();
    Ok(Asked { interval, heartbeat: duration("heartbeat", request.heartbeat, SHORTEST_HEARTBEAT, "100 ms")? })
}

fn duration(field: &str, asked: Option<prost_types::Duration>, least: Duration, called: &str) -> Result<Option<Duration>, Refusal> {
    let Some(asked) = asked else { return Ok(None) };
    let wrong = || Refusal::field(field, format!("{asked}; expected a duration from {called} to 1 h"));
    Duration::try_from(asked).ok().filter(|duration| (least..=LONGEST).contains(duration)).ok_or_else(wrong).map(Some)
}

/// The newest figures, again and again. Those that come while the client does not read are left out.
async fn follow(mut usage: Usage, asked: Asked, mut telling: Telling, sink: Sink<StreamMetricsResponse>) -> Result<(), Ended> {
    loop {
        let begun = Instant::now();
        let (snapshot, names) = usage.newest();
        sink.send(telling.next(&snapshot, &names)).await?;
        // The snapshot is used again once nobody holds it.
        drop((snapshot, names));
        let next = async {
            tokio::time::sleep_until(begun + asked.interval).await;
            usage.changed().await
        };
        tokio::select! {
            more = next => if !more { return Ok(()) },
            gone = beat(asked.heartbeat, &sink) => return Err(gone.into()),
        }
    }
}

/// Tells that the machine is there, again and again, until the client goes.
async fn beat(heartbeat: Option<Duration>, sink: &Sink<StreamMetricsResponse>) -> Gone {
    let Some(heartbeat) = heartbeat else { return sink.gone().await };
    loop {
        tokio::select! {
            () = tokio::time::sleep(heartbeat) => {}
            gone = sink.gone() => return gone,
        }
        if let Err(gone) = sink.send(StreamMetricsResponse::default()).await {
            return gone;
        }
    }
}
