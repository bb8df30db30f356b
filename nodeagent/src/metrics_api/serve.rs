//! Answers the API servers' aggregators over mutual TLS: they show a certificate of the front-proxy authority, and say for whom they ask. Whether
//! he may have it is the cluster's authorisation to say.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use controlplane::metrics_api::certificate_request;
use controlplane::pki::{Authority, AuthorityId, FRONT_PROXY_CLIENT};
use controlplane::ports::METRICS_API_PORT;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use super::answer::{Failure, answer};
use super::ask::Ask;
use super::discovery;
use super::is_wanted;
use super::sources::Sources;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::reviews::{Reviews, User};
use crate::server::caller::Peer;
use crate::server::tls::Credentials;
use crate::server::{self, Refusals, chunks};

const JSON: &str = "application/json";
const BIND_AGAIN: Duration = Duration::from_secs(5);
/// The serving certificate lives for a week; whatever else it was made of is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// Answers in memory at a time; whoever comes when there are more waits until his own deadline, or [`TURN`].
const ANSWERS: usize = 16;
const TURN: Duration = Duration::from_secs(10);
/// How long a client may take over an answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Groups that somebody is in; more are nobody's.
const MOST_GROUPS: usize = 512;

/// Upstream's extension API servers let the API server's own groups through without asking (DelegatingAuthorizationOptions, AlwaysAllowGroups).
const ALWAYS: &str = "system:masters";

#[derive(Debug, Clone)]
struct Served {
    sources: Sources,
    reviews: Reviews,
    answers: Arc<Semaphore>,
}

/// For as long as the agent lives; it listens while this machine is to answer.
pub async fn serve(node: Node, sources: Sources, reviews: Reviews) {
    let served = Served { sources, reviews, answers: Arc::new(Semaphore::new(ANSWERS)) };
    let mut board = node.store.revision();
    loop {
        board.mark_unchanged();
        match Machine::observe(&node) {
            Ok(machine) if is_wanted(&machine) => {
                if let Err(error) = listen(&node, machine, served.clone()).await {
                    tracing::warn!("{error:#}");
                    tokio::time::sleep(BIND_AGAIN).await;
                }
            }
            // Closed only when the agent ends.
            _ => drop(board.changed().await),
        }
    }
}

/// For as long as this lives, the port is bound.
struct Listening(Arc<AtomicBool>);

impl Listening {
    fn begin(flag: &Arc<AtomicBool>) -> Listening {
        flag.store(true, Ordering::Release);
        Listening(flag.clone())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Until the machine is not to answer any more.
async fn listen(node: &Node, machine: Machine, served: Served) -> anyhow::Result<()> {
    let listener = server::bind(METRICS_API_PORT).await.with_context(|| format!("listening on port {METRICS_API_PORT}"))?;
    let _listening = Listening::begin(&served.sources.listening);
    let (sender, credentials) = watch::channel(Arc::new(shown(&machine)?));
    let (connected, connections) = mpsc::channel::<io::Result<server::Connection>>(8);
    let routes = Router::new().fallback(handle).with_state(served);
    let accepting = server::accept(listener, credentials, Arc::new(Refusals::new(node.events.clone())), connected);
    let serving = server::transport().add_routes(Routes::from(routes)).serve_with_incoming(ReceiverStream::new(connections));
    tokio::select! {
        served = serving => served.context("serving the metrics API"),
        () = accepting => Ok(()),
        kept = keep(node, machine, sender) => kept,
    }
}

/// Shows a new certificate whenever what it is made of changes, and long before it ends.
async fn keep(node: &Node, mut machine: Machine, credentials: watch::Sender<Arc<Credentials>>) -> anyhow::Result<()> {
    let mut board = node.store.revision();
    let mut made = Instant::now();
    loop {
        // A board that is closed is the agent's end.
        let _ = tokio::time::timeout(LOOK_AGAIN, board.changed()).await;
        match Machine::observe(node) {
            Ok(now) if !is_wanted(&now) => return Ok(()),
            Ok(now) if now != machine || made.elapsed() >= LOOK_AGAIN => {
                (machine, made) = (now, Instant::now());
                credentials.send_replace(Arc::new(shown(&machine)?));
            }
            // What the machine does not know for a moment it knew before.
            _ => {}
        }
    }
}

fn shown(machine: &Machine) -> anyhow::Result<Credentials> {
    let authorities = &machine.config.cluster.certificate_authorities;
    let key = authorities.kubernetes.key.as_ref().context("this machine has no key of the Kubernetes authority yet")?;
    let issuer = Authority::from_pem(&authorities.kubernetes.certificate, key.reveal()).context(AuthorityId::Kubernetes.name())?;
    let own = issuer.issue(&certificate_request(&machine.facts), SystemTime::now())?;
    Credentials::mutual(&own, &authorities.front_proxy.certificate, false)
}

async fn handle(State(served): State<Served>, request: Request) -> Response<Body> {
    let (head, _) = request.into_parts();
    match respond(&served, &head).await {
        Ok(response) => response,
        Err(failure) => response(failure.code, JSON, Body::from(failure.status().to_string())),
    }
}

async fn respond(served: &Served, request: &Parts) -> Result<Response<Body>, Failure> {
    let user = user(request)?;
    let path = request.uri.path();
    let ask = Ask::of(&request.method, path, request.uri.query().unwrap_or_default(), &texts(&request.headers, ACCEPT.as_str()).join(","))?;
    if !user.groups.iter().any(|group| group == ALWAYS) {
        let access = ask.access(path);
        let permitted = served.reviews.permits(&user, &access).await;
        let permitted = permitted.map_err(|error| Failure::unavailable(format!("{error:#}")))?;
        if !permitted {
            let message = format!("User {:?} cannot {access}", user.name);
            return Err(Failure::new(StatusCode::FORBIDDEN, "Forbidden", message));
        }
    }
    let turn = tokio::time::timeout(TURN, served.answers.clone().acquire_owned()).await;
    let turn = turn.ok().and_then(Result::ok).ok_or_else(|| Failure::unavailable("too many others are being answered; try again"))?;
    let answer: Value = answer(&ask, &served.sources, Instant::now())?;
    let kind = if ask == Ask::Everything { discovery::EVERYTHING } else { JSON };
    Ok(response(StatusCode::OK, kind, Body::from_stream(chunks::in_chunks(answer.to_string(), turn, DEADLINE))))
}

/// For whom the aggregator asks. The handshake proved that somebody of the front-proxy authority does; only the aggregator may say who.
fn user(request: &Parts) -> Result<User, Failure> {
    let unknown = |message: &str| Failure::new(StatusCode::UNAUTHORIZED, "Unauthorized", message);
    let peer = request.extensions.get::<Peer>().and_then(|peer| peer.identity.clone());
    let peer = peer.ok_or_else(|| unknown("no client certificate; ask the API server, which asks here"))?;
    if peer.common_name != FRONT_PROXY_CLIENT || peer.not_after < SystemTime::now() {
        return Err(unknown("the client certificate is not the API server's; ask the API server, which asks here"));
    }
    let all = |name| texts(&request.headers, name);
    let name = all("x-remote-user").into_iter().next().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| unknown("X-Remote-User is missing"))?;
    let mut groups = all("x-remote-group");
    groups.truncate(MOST_GROUPS);
    Ok(User { name, uid: all("x-remote-uid").into_iter().next().unwrap_or_default(), groups, extra: Default::default() })
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect()
}

fn response(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
