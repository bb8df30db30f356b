//! Service Metrics: what the machine, its services, pods and containers use.

use std::time::Duration;

use api::v1::metrics_server;
use api::v1::{StreamMetricsRequest, StreamMetricsResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::stream::{Answers, Ended, Sink, answer};
use crate::refusal::Refusal;
use crate::usage::{Telling, Usage};

#[derive(Debug)]
pub struct Metrics(pub Usage);

/// Nobody asks for figures older than this.
const LONGEST: Duration = Duration::from_secs(3600);

#[tonic::async_trait]
impl metrics_server::Metrics for Metrics {
    type StreamStream = Answers<StreamMetricsResponse>;

    async fn stream(&self, request: Request<StreamMetricsRequest>) -> Result<Response<Self::StreamStream>, Status> {
        let interval = interval(request.get_ref())?;
        let (usage, telling) = (self.0.clone(), Telling::new(request.get_ref()));
        Ok(Response::new(answer(move |sink| follow(usage, interval, telling, sink))))
    }
}

fn interval(request: &StreamMetricsRequest) -> Result<Duration, Refusal> {
    let Some(asked) = request.interval else { return Ok(Duration::ZERO) };
    let wrong = || Refusal::field("interval", format!("{asked}; expected a duration from 0 s to 1 h"));
    Duration::try_from(asked).ok().filter(|interval| *interval <= LONGEST).ok_or_else(wrong)
}

/// The newest figures, again and again. Those that come while the client does not read are left out.
async fn follow(mut usage: Usage, interval: Duration, mut telling: Telling, sink: Sink<StreamMetricsResponse>) -> Result<(), Ended> {
    loop {
        let begun = Instant::now();
        let (snapshot, names) = usage.newest();
        sink.send(telling.next(&snapshot, &names)).await?;
        // The snapshot is used again once nobody holds it.
        drop((snapshot, names));
        tokio::select! {
            () = tokio::time::sleep_until(begun + interval) => {}
            gone = sink.gone() => return Err(gone.into()),
        }
        tokio::select! {
            more = usage.changed() => if !more { return Ok(()) },
            gone = sink.gone() => return Err(gone.into()),
        }
    }
}
