//! What a machine does that wants into a cluster where nobody let it in, or to keep others out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use api::v1::cluster_client::ClusterClient;
use api::v1::{IssueCertificateRequest, IssueCertificateResponse, MachineRole, SigningRequest};
use controlplane::pki::{self, CertificateId};
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use machine::config::{Host, HostPort};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use super::machines::{CONTROL_PLANE, address};
use crate::agents::{self, Dial, Whom};
use crate::controllers::machine::Machine;
use crate::controllers::real_cluster::machine_under_test::until;
use crate::node::Node;

/// More than an agent takes.
const SILENT: usize = 300;
const HANGING: usize = 6;
const FLOODING: usize = 4;
const OVERSIZE: usize = 5 << 20;
/// Before it connects again after it was thrown out, so that its own loops do not take the processor that others need.
const PAUSE: Duration = Duration::from_millis(200);

/// What it was told, by reasons; and when it is to stop.
#[derive(Debug, Default)]
pub struct Told {
    counts: Mutex<BTreeMap<String, u64>>,
    stop: Notify,
}

impl Told {
    fn hear(&self, what: impl Into<String>) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what.into()).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was told something of each of these.
    pub fn tried(&self, what: &[&str]) -> Result<()> {
        let counts = self.counts();
        ensure!(what.iter().all(|what| counts.keys().any(|told| told.starts_with(what))), "it was told {counts:?}");
        Ok(())
    }

    pub fn stop(&self) {
        self.stop.notify_one();
    }
}

/// Until it is told to stop.
pub async fn attack(node: Node, told: Arc<Told>) -> Result<()> {
    let mut attacks = JoinSet::new();
    for i in 0..FLOODING {
        attacks.spawn(flood(node.clone(), told.clone(), i));
    }
    attacks.spawn(hang(node.clone(), told.clone()));
    attacks.spawn(oversize(node, told.clone()));
    // Its silent connections take the places that its others need.
    let tried = || async { told.tried(&["flooding", "hanging", "oversize"]) };
    until("it has tried the rest", tried).await?;
    for _ in 0..SILENT {
        attacks.spawn(say_nothing(told.clone()));
    }
    told.stop.notified().await;
    Ok(())
}

/// Connections that never begin a handshake.
async fn say_nothing(told: Arc<Told>) {
    use tokio::io::AsyncReadExt;
    loop {
        if let Ok(mut stream) = TcpStream::connect((address(CONTROL_PLANE), api::PORT)).await {
            let _ = stream.read(&mut [0; 1]).await;
            told.hear("silent: the connection was ended");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connect(node: &Node, told: &Told) -> Channel {
    let server = HostPort { host: Host::Address(address(CONTROL_PLANE)), port: api::PORT };
    let config = node.config().expect("it has a config").config;
    let authority_pem = &config.cluster.certificate_authorities.machine.certificate;
    loop {
        match agents::connect(node, &server, Dial { authority_pem, own: None, from: &[], whom: Whom::ControlPlane }).await {
            Ok(channel) => return channel,
            Err(_) => told.hear("no connection"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks without end: with tokens that it guesses, for names and addresses that are others'.
async fn flood(node: Node, told: Arc<Told>, which: usize) {
    let machine = Machine::observe(&node).expect("it is a machine");
    let specs = pki::certificates(&machine.config, &machine.facts);
    let spec = specs.iter().find(|spec| spec.id == CertificateId::Machine).expect("there is one");
    let request = pki::signing_request(&spec.request).expect("a request").request_pem;
    let asked = IssueCertificateRequest {
        token: "abcdef.0123456789abcdef".to_owned(),
        node: ["hostile", "quiet-1", "beside-1", "cp-1"][which % 4].to_owned(),
        role: [MachineRole::Worker, MachineRole::ControlPlane][which / 4 % 2].into(),
        addresses: vec![address([200, 21, 41, CONTROL_PLANE][which % 4]).to_string()],
        requests: vec![SigningRequest { name: CertificateId::Machine.name().to_owned(), request }],
        ..IssueCertificateRequest::default()
    };
    loop {
        let mut client = ClusterClient::new(connect(&node, &told).await);
        loop {
            let answer = client.issue_certificate(asked.clone()).await;
            if !hear(&told, "flooding", &answer.map(tonic::Response::into_inner)) {
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the connection is of use still.
fn hear(told: &Told, doing: &str, answer: &Result<IssueCertificateResponse, Status>) -> bool {
    match answer {
        Ok(answer) => told.hear(format!("{doing}: GRANTED {} certificates", answer.certificates.len())),
        Err(status) => match status.get_error_details().error_info() {
            Some(info) => told.hear(format!("{doing}: {}", info.reason)),
            None => {
                told.hear(format!("{doing}: {:?}", status.code()));
                return status.code() == tonic::Code::OutOfRange || status.code() == tonic::Code::ResourceExhausted;
            }
        },
    }
    true
}

async fn oversize(node: Node, told: Arc<Told>) {
    let asked = IssueCertificateRequest { token: "x".repeat(OVERSIZE), ..IssueCertificateRequest::default() };
    loop {
        let mut client = ClusterClient::new(connect(&node, &told).await);
        let answer = client.issue_certificate(asked.clone()).await;
        hear(&told, "oversize", &answer.map(tonic::Response::into_inner));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Calls whose requests have no end.
async fn hang(node: Node, told: Arc<Told>) {
    loop {
        let channel = connect(&node, &told).await;
        let mut calls = JoinSet::new();
        for _ in 0..HANGING {
            let (mut channel, told) = (channel.clone(), told.clone());
            calls.spawn(async move {
                // A message that is announced, and does not come.
                let begun = stream::iter([Ok::<_, Status>(Frame::data(Bytes::from_static(&[0, 0, 0, 16, 0, 1])))]);
                let body = Body::new(StreamBody::new(futures::StreamExt::chain(begun, stream::pending())));
                let request = http::Request::post("/corten.machine.v1.Cluster/IssueCertificate").header("content-type", "application/grpc");
                let request = request.body(body).expect("a request");
                let answered = async { channel.ready().await?.call(request).await };
                told.hear(match answered.await {
                    Ok(response) => match Status::from_header_map(response.headers()) {
                        Some(status) => format!("hanging: {:?} {}", status.code(), status.message()),
                        None => "hanging: an answer".to_owned(),
                    },
                    Err(_) => "hanging: the connection was ended".to_owned(),
                });
            });
        }
        calls.join_all().await;
        tokio::time::sleep(PAUSE).await;
    }
}
