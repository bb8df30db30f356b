//! Passes calls on to machines that a client cannot reach itself: what it asks of a control plane with the header `corten-node`, that machine
//! is asked in its stead. The caller's role stays the caller's, and what comes of it is for the other machine to decide and to record.
//!
//! Only control planes do so: they alone can make themselves the certificate (`os:proxy`) that other machines believe. A call is passed on once.

use ::machine::config::{Host, HostPort};
use anyhow::Context;
use controlplane::pki::MachineRole;
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt};

use super::caller::{Identity, Peer};
use crate::agents;
use crate::controllers::machine::Machine;
use crate::node::Node;
use crate::refusal::Refusal;

/// Which machine is meant: `host` or `host:port`.
pub const NODE: &str = "corten-node";
/// For whom a call is passed on: role and subject of the certificate, and where the call came from.
const ROLE: &str = "corten-caller-role";
const SUBJECT: &str = "corten-caller-subject";
const ADDRESS: &str = "corten-caller-address";

/// The machine that the call is meant for, if that is another one.
pub fn target(request: &Request<Body>, node: &Node) -> Result<Option<HostPort>, Refusal> {
    let Some(value) = request.headers().get(NODE) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let target = text.parse::<Host>().map(|host| HostPort { host, port: api::PORT }).or_else(|_| text.parse::<HostPort>());
    let target = target.map_err(|_| Refusal::field(NODE, format!("{text:?}; expected a machine's name or address")))?;
    Ok((!is_own(node, &target.host)).then_some(target))
}

fn is_own(node: &Node, host: &Host) -> bool {
    match (Machine::observe(node), host) {
        (Ok(machine), Host::Address(address)) => machine.facts.node_ips.contains(address),
        (Ok(machine), Host::Name(name)) => machine.facts.node_name == *name,
        (Err(_), _) => false,
    }
}

/// Asks the other machine, and answers as it does.
pub async fn pass_on(node: &Node, peer: &Peer, target: HostPort, mut request: Request<Body>) -> Result<Response<Body>, Status> {
    let Some(caller) = peer.identity.as_ref().filter(|identity| identity.role.is_some()) else {
        return Err(not_for(peer).into());
    };
    let (channel, from) = connect(node, &target).await?;
    take_off(request.headers_mut());
    for (name, value) in [(ROLE, caller.organization()), (SUBJECT, caller.subject.clone()), (ADDRESS, peer.address.to_string())] {
        // A name that no header can carry is not made up.
        let value = HeaderValue::from_str(&value).map_err(|_| Status::invalid_argument(format!("{value:?} cannot be passed on")))?;
        request.headers_mut().insert(name, value);
    }
    let unreachable = |error: &dyn std::error::Error| Status::unavailable(format!("{from} asking {target}: {}", chain(error)));
    let mut channel = channel;
    let ready = channel.ready().await.map_err(|error| unreachable(&error))?;
    ready.call(request).await.map_err(|error| unreachable(&error))
}

/// Who really asks, where a control plane passes a call on. Strangers' headers are not listened to.
pub fn caller(peer: Peer, headers: &mut HeaderMap) -> Peer {
    let proxy = peer.identity.as_ref().filter(|identity| identity.is_proxy).cloned();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (role, subject, address) = (text(ROLE), text(SUBJECT), text(ADDRESS));
    take_off(headers);
    let Some(proxy) = proxy else { return peer };
    let role = role.parse::<MachineRole>().ok().and_then(Identity::role_of);
    let subject = format!("{subject} through {} ({address})", proxy.common_name);
    Peer { identity: Some(std::sync::Arc::new(Identity { role, subject, is_proxy: false, ..(*proxy).clone() })), ..peer }
}

/// Removes what only this module may say.
fn take_off(headers: &mut HeaderMap) {
    for name in [NODE, ROLE, SUBJECT, ADDRESS] {
        headers.remove(name);
    }
}

async fn connect(node: &Node, target: &HostPort) -> Result<(Channel, String), Refusal> {
    let machine = Machine::observe(node).ok().filter(Machine::is_control_plane);
    let remedy = "name a control plane with --endpoints";
    let machine = machine.ok_or_else(|| Refusal::state("NOT_A_CONTROL_PLANE", "only control planes pass calls on", remedy))?;
    let name = machine.facts.node_name.clone();
    let part = |source| Refusal::Unavailable { part: "the other machine", source };
    let channel = agents::connect_as(node, &machine, target, MachineRole::Proxy)
        .await
        .with_context(|| format!("{name} connecting to {target}"))
        .map_err(part)?;
    Ok((channel, name))
}

fn not_for(peer: &Peer) -> Refusal {
    Refusal::NotPermitted {
        problem: format!("calls of {peer} are not passed on"),
        remedy: "use a client certificate with a role".to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
