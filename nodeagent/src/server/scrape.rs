//! `GET /metrics` on the machine API's port, for Prometheus and its like: mutual TLS and role reader, or a token of the cluster's; HTTP/2 or 1.1.

mod asked;
mod bearer;
mod file_systems;
mod machine;
mod sensors;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use metrics::file_systems::Written;
use metrics::open_metrics::{self, Format, Text};
use metrics::temperature::{self, Temperature};
use tokio::sync::Semaphore;

use super::chunks::in_chunks;
use super::permission::Denial;
use crate::node::Node;
use crate::usage::Usage;
use asked::Asked;
pub use bearer::{Bearers, token};

pub const PATH: &str = "/metrics";

/// Texts in memory at a time. A scraper that comes when there are more is told to come again.
const TEXTS: usize = 8;
/// How long a scraper may take over a text.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
struct Scrapes {
    node: Node,
    usage: Usage,
    temperatures: Asked<Vec<Temperature>>,
    written: Asked<Vec<Written>>,
    texts: Arc<Semaphore>,
}

pub fn router(node: Node, usage: Usage) -> Router {
    let texts = Arc::new(Semaphore::new(TEXTS));
    let (temperatures, written) = (Asked::new(sensors::FRESH), Asked::new(file_systems::FRESH));
    Router::new().route(PATH, get(scrape)).with_state(Scrapes { node, usage, temperatures, written, texts })
}

/// What a scraper is told whom the permission table denies: it understands HTTP's own codes, and not gRPC's.
pub fn denied(denial: Denial) -> Response<tonic::body::Body> {
    let status = match denial {
        Denial::NoCertificate | Denial::Expired => StatusCode::UNAUTHORIZED,
        Denial::IdentityHeld | Denial::Role { .. } | Denial::MachinesOnly => StatusCode::FORBIDDEN,
        Denial::UnknownMethod => StatusCode::NOT_FOUND,
        Denial::Stage(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let remedy = match denial {
        Denial::NoCertificate => "show a client certificate of role os:reader, or a bearer token of the cluster's",
        _ => &*denial.remedy(),
    };
    challenged(plain(status, format!("{denial}\n{remedy}\n")))
}

/// What a scraper is told whose token does not do.
pub fn refused(refused: &bearer::Refused) -> Response<tonic::body::Body> {
    use bearer::Refused;
    let (status, retry) = match refused {
        Refused::Nobody => (StatusCode::UNAUTHORIZED, None),
        Refused::MayNot { .. } => (StatusCode::FORBIDDEN, None),
        Refused::Busy => (StatusCode::TOO_MANY_REQUESTS, Some(1)),
        Refused::Unknown(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
    };
    let mut response = plain(status, format!("{}\n", refused.told()));
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    challenged(response)
}

/// With the way to prove oneself, where that is what lacks (RFC 9110, 15.5.2).
fn challenged(mut response: Response<Body>) -> Response<tonic::body::Body> {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"corten\""));
    }
    response.map(tonic::body::Body::new)
}

async fn scrape(State(scrapes): State<Scrapes>, headers: HeaderMap) -> Response<Body> {
    let Ok(permit) = scrapes.texts.clone().try_acquire_owned() else {
        let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, format!("{TEXTS} others are being answered; try again in a moment\n"));
        response.headers_mut().insert(RETRY_AFTER, 1.into());
        return response;
    };
    let format = Format::accepted(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default());
    let (sensors, layers) = (sensors::ask(scrapes.node.root.clone()), file_systems::ask(scrapes.node.clone()));
    let (temperatures, written) = tokio::join!(scrapes.temperatures.get(sensors), scrapes.written.get(layers));
    let (snapshot, names) = scrapes.usage.newest();
    let mut text = Text::new(format);
    machine::render(&scrapes.node, &mut text);
    open_metrics::render(&snapshot, &names, &mut text);
    if let Some(written) = written {
        metrics::file_systems::render(&written, &snapshot, &names, &mut text);
    }
    if let Some(temperatures) = temperatures {
        temperature::render(&temperatures, &mut text);
    }
    let mut response = Response::new(Body::from_stream(in_chunks(text.finish(), permit, DEADLINE)));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(format.content_type()));
    response
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}
