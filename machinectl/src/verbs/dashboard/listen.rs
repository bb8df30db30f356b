//! The streams that a dashboard is made of. One that breaks is begun again, and the others go on.

use std::future::Future;
use std::time::Duration;

use api::v1::stream_request::Source as LogSource;
use api::v1::watch_resources_response::Change;
use api::v1::{
    DmesgRequest, EventsRequest, GetHealthRequest, GetVersionRequest, StreamMetricsRequest, StreamRequest, WatchResourcesRequest,
};
use dashboard::facts::{ServiceSeen, Source, Told};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, JoinSet};
use tonic::{Status, Streaming};

use crate::session::Session;

/// First wait before a stream is begun again; it doubles.
const AGAIN: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(10);
/// How often the version and the checks are asked for: they are calls, not streams.
const CALLS: Duration = Duration::from_secs(5);
/// Lines of a log to begin with.
const TAIL: u32 = 200;
/// What the machine told and was not drawn yet; beyond it the machine waits.
const WAITING: usize = 256;

#[derive(Debug)]
pub struct Listeners {
    session: Session,
    told: Receiver<Told>,
    teller: Sender<Told>,
    log: Option<(String, JoinHandle<()>)>,
    /// They end with this.
    _all: JoinSet<()>,
}

impl Listeners {
    pub fn begin(session: Session) -> Listeners {
        let (teller, told) = channel(WAITING);
        let mut all = JoinSet::new();
        all.spawn(keep(Source::Version, session.clone(), teller.clone(), version));
        all.spawn(keep(Source::Health, session.clone(), teller.clone(), health));
        all.spawn(keep(Source::Usage, session.clone(), teller.clone(), usage));
        all.spawn(keep(Source::Services, session.clone(), teller.clone(), services));
        all.spawn(keep(Source::Events, session.clone(), teller.clone(), events));
        all.spawn(keep(Source::Kernel, session.clone(), teller.clone(), kernel));
        Listeners { session, told, teller, log: None, _all: all }
    }

    /// The next that a listener heard.
    pub async fn next(&mut self) -> Told {
        match self.told.recv().await {
            Some(told) => told,
            // It has a sender of its own.
            None => std::future::pending().await,
        }
    }

    /// What is there already.
    pub fn ready(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    /// Listens to this service's log, and to no other.
    pub fn follow(&mut self, service: Option<String>) {
        if self.log.as_ref().map(|(service, _)| service) == service.as_ref() {
            return;
        }
        if let Some((_, listening)) = self.log.take() {
            listening.abort();
        }
        self.log = service.map(|service| {
            let name = service.clone();
            let listen = move |session: Session, teller: Teller| log(session, teller, name.clone());
            (service, tokio::spawn(keep(Source::Log, self.session.clone(), self.teller.clone(), listen)))
        });
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.follow(None);
    }
}

/// Tells, and that the source is there again with the first thing.
#[derive(Debug, Clone)]
struct Teller {
    source: Source,
    to: Sender<Told>,
}

impl Teller {
    /// Nobody listens any longer once the picture is gone; then this task goes as well.
    async fn tell(&self, told: Told) {
        let _ = self.to.send(told).await;
    }

    async fn is_back(&self) {
        self.tell(Told::Trouble(self.source, None)).await;
    }
}

/// Listens for ever.
async fn keep<F: Future<Output = Status>>(source: Source, session: Session, to: Sender<Told>, listen: impl Fn(Session, Teller) -> F) {
    let teller = Teller { source, to };
    let mut wait = AGAIN;
    loop {
        let began = tokio::time::Instant::now();
        let status = listen(session.clone(), teller.clone()).await;
        if began.elapsed() > AGAIN_MOST {
            wait = AGAIN;
        }
        let failure = session.failed(&status);
        teller.tell(Told::Trouble(source, Some(failure.problems.join("; ")))).await;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MOST);
    }
}

/// Tells each message of a stream to its end.
async fn each<T>(teller: &Teller, opened: Result<tonic::Response<Streaming<T>>, Status>, told: impl Fn(T) -> Option<Told>) -> Status {
    let mut stream = match opened {
        Ok(stream) => stream.into_inner(),
        Err(status) => return status,
    };
    teller.is_back().await;
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                if let Some(told) = told(message) {
                    teller.tell(told).await;
                }
            }
            Ok(None) => return Status::unavailable("the machine ended the stream"),
            Err(status) => return status,
        }
    }
}

async fn version(session: Session, teller: Teller) -> Status {
    loop {
        match session.machine().get_version(GetVersionRequest {}).await {
            Ok(version) => {
                teller.is_back().await;
                teller.tell(Told::Version(version.into_inner())).await;
            }
            Err(status) => return status,
        }
        tokio::time::sleep(CALLS).await;
    }
}

async fn health(session: Session, teller: Teller) -> Status {
    loop {
        let report = match session.machine().get_health(GetHealthRequest { wait: None }).await {
            Ok(reports) => reports.into_inner().message().await,
            Err(status) => return status,
        };
        match report {
            Ok(Some(report)) => {
                teller.is_back().await;
                teller.tell(Told::Health(report)).await;
            }
            Ok(None) => return Status::unavailable("the machine reported no checks"),
            Err(status) => return status,
        }
        tokio::time::sleep(CALLS).await;
    }
}

async fn usage(session: Session, teller: Teller) -> Status {
    let opened = session.metrics().stream(StreamMetricsRequest::default()).await;
    each(&teller, opened, |usage| Some(Told::Usage(Box::new(usage)))).await
}

async fn services(session: Session, teller: Teller) -> Status {
    let request = WatchResourcesRequest { kind: "services".to_owned(), name: String::new() };
    let opened = session.resource().watch(request).await;
    each(&teller, opened, |answer| {
        let change = answer.change();
        let object = answer.object?;
        let seen = (change == Change::Put).then(|| seen(object.status));
        Some(Told::Service(object.name, seen))
    })
    .await
}

fn seen(status: Option<prost_types::Struct>) -> ServiceSeen {
    let status = status.map(|status| Value::Object(api::json::from_struct(status))).unwrap_or_default();
    let state = status["state"].as_str().unwrap_or_default().to_owned();
    ServiceSeen { state, restarts: status["restarts"].as_f64().unwrap_or_default() as u64 }
}

async fn events(session: Session, teller: Teller) -> Status {
    let opened = session.log().events(EventsRequest { follow: true, tail: Some(TAIL) }).await;
    each(&teller, opened, |answer| answer.event.map(Told::Event)).await
}

async fn kernel(session: Session, teller: Teller) -> Status {
    let opened = session.log().dmesg(DmesgRequest { follow: true, tail: Some(TAIL) }).await;
    each(&teller, opened, |answer| Some(Told::Kernel(answer.line))).await
}

async fn log(session: Session, teller: Teller, service: String) -> Status {
    let request = StreamRequest { source: Some(LogSource::Service(service.clone())), follow: true, tail: Some(TAIL) };
    let opened = session.log().stream(request).await;
    each(&teller, opened, |answer| Some(Told::Log(service.clone(), answer.lines))).await
}
