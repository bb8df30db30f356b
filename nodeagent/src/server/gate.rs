//! Stands before every method of the machine API: asks the permission table, sets a deadline, and tells who changed what.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ::machine::audit::Call;
use api::v1::{Machines, Role};
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::audited::{Ear, until_end};
use super::caller::Peer;
use super::joining::{self, Joining};
use super::passing;
use super::permission::{Caller, Decision, Denial, access, bearer, permitted};
use super::refusals::Refusals;
use super::scrape::{self, Bearers};
use super::status::denied;
use crate::audit::{Audit, Begun};
use crate::identity;
use crate::node::Node;
use crate::reviews::Reviews;

/// How long a call may take until its answer begins. What streams answers may go on for longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// For calls that take in a stream, read whole slots, or stop a machine full of pods.
const LONG_DEADLINE: Duration = Duration::from_secs(30 * 60);
const LONG: [&str; 8] = [
    "/corten.machine.v1.Etcd/Defragment",
    "/corten.machine.v1.Etcd/Restore",
    "/corten.machine.v1.Image/Import",
    "/corten.machine.v1.Machine/Reboot",
    "/corten.machine.v1.Machine/Shutdown",
    "/corten.machine.v1.Machine/Reset",
    "/corten.machine.v1.Upgrade/Offer",
    "/corten.machine.v1.Upgrade/Upload",
];

/// Calls of strangers that are answered at a time: in maintenance each may be as long as a message may be.
const STRANGERS: usize = 16;

/// Wraps the methods into [`Gate`].
#[derive(Debug, Clone)]
pub struct GateLayer {
    node: Node,
    refusals: Arc<Refusals>,
    strangers: Arc<Semaphore>,
    joining: Arc<Joining>,
    bearers: Arc<Bearers>,
    audit: Audit,
}

impl GateLayer {
    pub fn new(node: Node, refusals: Arc<Refusals>, audit: Audit, reviews: Reviews) -> GateLayer {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        GateLayer { node, refusals, strangers, joining: Arc::default(), bearers: Arc::new(Bearers::new(reviews)), audit }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, layer: self.clone() }
    }
}

#[derive(Debug, Clone)]
pub struct Gate<S> {
    inner: S,
    layer: GateLayer,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone takes the readiness along: tower's contract is that the polled service is the called one.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        Box::pin(pass(self.layer.clone(), inner, request))
    }
}

async fn pass<S>(gate: GateLayer, mut inner: S, mut request: Request<Body>) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let path = request.uri().path().to_owned();
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Ok(Status::internal("the connection does not say who is at its other end").into_http());
    };
    let target = match &peer.identity {
        Some(identity) if !identity.is_proxy => passing::target(&request, &gate.node),
        _ => Ok(None),
    };
    let peer = passing::caller(peer, request.headers_mut());
    request.extensions_mut().insert(peer.clone());
    let token = scrape::token(&request).filter(|_| peer.identity.is_none()).map(str::to_owned);
    if let Err(denial) = gate.ask(&peer, &path, token.is_some()) {
        gate.refusals.call(&peer, &path, denial);
        gate.note_denied(&peer, &path, denial);
        return Ok(if path == scrape::PATH { scrape::denied(denial) } else { denied(denial).into_http() });
    }
    let joins = peer.identity.is_none() && for_anybody(&path);
    let mut turn = None;
    if joins {
        let taken = gate.joining.take_in(peer.address.ip(), request).await;
        match taken {
            Ok((whole, its)) => (request, turn) = (whole, Some(its)),
            Err(refusal) => {
                gate.refusals.call(&peer, &path, &refusal);
                return Ok(Status::from(refusal).into_http());
            }
        }
    }
    let _permit = match &peer.identity {
        None => Some(gate.strangers.acquire().await),
        Some(_) => None,
    };
    if let Some(token) = token
        && let Err(refused) = gate.bearers.admit(&token, &peer, &path).await
    {
        gate.refusals.call(&peer, &path, &refused);
        return Ok(scrape::refused(&refused));
    }
    let deadline = if LONG.contains(&path.as_str()) { LONG_DEADLINE } else { DEADLINE };
    let target = match target {
        Ok(target) => target,
        Err(refusal) => return Ok(Status::from(refusal).into_http()),
    };
    if let Some(target) = target {
        let passed = tokio::time::timeout(deadline, passing::pass_on(&gate.node, &peer, target, request)).await;
        return Ok(passed.unwrap_or_else(|_| Err(late(deadline))).unwrap_or_else(|status| status.into_http()));
    }
    let begun = match changes(&path) && !joins {
        true => Some(gate.audit.begin(call(&peer, &path)).await),
        false => None,
    };
    let ear = Ear::default();
    let request = if begun.is_some() || joins { ear.on(request) } else { request };
    let response = match tokio::time::timeout(deadline, inner.call(request)).await {
        Ok(response) => response?,
        Err(_) => late(deadline).into_http(),
    };
    gate.tell(&peer, &path, &response);
    if let Some(turn) = turn.filter(|_| refusal(&response).is_some()) {
        turn.end_after(joining::PAUSE);
    }
    let begun = if joins { gate.note_joining(&peer, &path, refusal(&response)).await } else { begun };
    Ok(match begun {
        Some(begun) => until_end(response, begun, ear),
        None => response,
    })
}

/// A call's refusal stands in the head of its answer.
fn refusal(response: &Response<Body>) -> Option<Status> {
    Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
}

fn late(deadline: Duration) -> Status {
    Status::deadline_exceeded(format!("no answer within {} seconds", deadline.as_secs()))
}

/// Calls that ask for more than a reader's role change something, or show what not everybody may see.
fn changes(path: &str) -> bool {
    access(path).is_some_and(|access| access.role != Role::Reader)
}

/// Calls of machines that are about to join: whoever reaches the machine may make them, as often as he likes.
fn for_anybody(path: &str) -> bool {
    access(path).is_some_and(|access| access.machines == Machines::Any)
}

fn call(peer: &Peer, path: &str) -> Call {
    let role = peer.identity.as_ref().and_then(|identity| identity.role).map_or("", |role| match role {
        Role::Unspecified => "",
        Role::Reader => "reader",
        Role::Operator => "operator",
        Role::Admin => "admin",
    });
    Call { subject: peer.subject().to_owned(), role: role.to_owned(), address: peer.address.to_string(), method: path.to_owned() }
}

impl GateLayer {
    fn ask(&self, peer: &Peer, path: &str, shows_token: bool) -> Result<(), Denial> {
        let caller = match &peer.identity {
            // The handshake checked the certificate; the connection may have outlived it.
            Some(identity) if identity.not_after < SystemTime::now() => return Err(Denial::Expired),
            Some(identity) if identity.role.is_none() && identity.machine.is_some() => Caller::Machine,
            Some(identity) => Caller::Certified(identity.role),
            None if shows_token => bearer(path),
            None => Caller::Anonymous,
        };
        match permitted(self.node.stage(), identity::held(&self.node), caller, access(path)) {
            Decision::Allowed => Ok(()),
            Decision::Denied(denial) => Err(denial),
        }
    }

    /// Only what somebody known tried: strangers must not fill the log.
    fn note_denied(&self, peer: &Peer, path: &str, denial: Denial) {
        if peer.identity.is_some() && changes(path) {
            self.audit.denied(call(peer, path), denial.to_string());
        }
    }

    /// What was granted is recorded, before the answer goes out; of what was not, as much as strangers may write.
    async fn note_joining(&self, peer: &Peer, path: &str, refused: Option<Status>) -> Option<Begun> {
        let Some(refused) = refused else { return Some(self.audit.begin(call(peer, path)).await) };
        if let Some(reason) = self.refusals.record(refused.message()) {
            self.audit.denied(call(peer, path), reason);
        }
        None
    }

    /// Tells of what changes something; strangers' refusals at a limited rate.
    fn tell(&self, peer: &Peer, path: &str, response: &Response<Body>) {
        if !changes(path) {
            return;
        }
        let result = match refusal(response) {
            Some(refused) if peer.identity.is_none() => return self.refusals.call(peer, path, refused.message()),
            Some(refused) => format!("{:?}: {}", refused.code(), refused.code()),
            None => "done".to_owned(),
        };
        self.node.events.emit("api", "Called", format!("{peer} called {path}: {result}"));
    }
}
