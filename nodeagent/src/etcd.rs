//! This machine's etcd, asked as its client: of etcd's own gRPC services what the agent needs (api/etcdserverpb/rpc.proto in etcd's source).

pub mod database;
mod downgrade;
pub mod maintenance;
pub mod members;
#[cfg(test)]
pub mod played;
pub mod snapshot;
pub mod wal;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::Issued;
use machine::config::Config;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

pub use downgrade::{cancel_downgrade, enable_downgrade, may_downgrade, versions};

/// [`ANSWER_DEADLINE`] of a question that is asked of several at once, or again and again.
pub const QUICK: Duration = Duration::from_secs(5);

/// How long etcd may take to connect, to answer, and between two pieces of an answer.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// [`controlplane::ports::ETCD_CLIENT_PORT`]
const SERVER: &str = "https://127.0.0.1:2379";

/// How to reach an etcd as its client.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `https://127.0.0.1:2379`
    pub server: &'a str,
    /// PEM of the authority of etcd's clients and servers.
    pub authority: &'a str,
    pub certificate: &'a Issued,
    /// Connections to use again; none: each question makes its own.
    pub kept: Option<&'a Connections>,
}

/// Connections that are kept from one question to the next, by server, each with the certificate that it was made with: a handshake for every
/// question would be most of what an idle control plane's agent does.
#[derive(Debug, Default)]
pub struct Connections(Mutex<BTreeMap<String, (String, Grpc<Channel>)>>);

impl Connections {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (String, Grpc<Channel>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This machine's etcd, as its config has it.
pub fn access<'a>(config: &'a Config, certificate: &'a Issued) -> Access<'a> {
    let authority = &config.cluster.certificate_authorities.etcd_client.certificate;
    Access { server: SERVER, authority, certificate, kept: None }
}

/// A call that is answered once.
pub async fn ask<Q, A>(access: Access<'_>, method: &'static str, question: Q) -> anyhow::Result<A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    ask_within(access, ANSWER_DEADLINE, method, question).await
}

/// The same with another deadline.
pub async fn ask_within<Q, A>(access: Access<'_>, deadline: Duration, method: &'static str, question: Q) -> anyhow::Result<A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let asked = async {
        let codec = ProstCodec::<Q, A>::default();
        Ok::<A, anyhow::Error>(
            client(access).await?.unary(Request::new(question), PathAndQuery::from_static(method), codec).await?.into_inner(),
        )
    };
    answered(access, method, within(deadline, asked).await.and_then(|answered| answered))
}

/// One that was not answered may have a connection that is of no use.
fn answered<A>(access: Access<'_>, method: &str, answered: anyhow::Result<A>) -> anyhow::Result<A> {
    if let (Err(_), Some(connections)) = (&answered, access.kept) {
        connections.lock().remove(access.server);
    }
    answered.with_context(|| format!("asking etcd at {} for {method}", access.server))
}

/// One question and one answer of a call that would go on.
pub async fn ask_once<Q, A>(access: Access<'_>, deadline: Duration, method: &'static str, question: Q) -> anyhow::Result<A>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let asked = async {
        let codec = ProstCodec::<Q, A>::default();
        let questions = Request::new(futures::stream::iter([question]));
        let mut answers = client(access).await?.streaming(questions, PathAndQuery::from_static(method), codec).await?.into_inner();
        answers.message().await?.context("etcd ended the call")
    };
    answered(access, method, within(deadline, asked).await.and_then(|answered| answered))
}

/// A call that is answered in pieces.
pub async fn stream<Q, A>(access: Access<'_>, method: &'static str, question: Q) -> anyhow::Result<Streaming<A>>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let mut client = client(access).await?;
    let codec = ProstCodec::<Q, A>::default();
    Ok(client.server_streaming(Request::new(question), PathAndQuery::from_static(method), codec).await?.into_inner())
}

pub async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> anyhow::Result<T> {
    let late = || format!("etcd was silent for {} seconds", deadline.as_secs());
    tokio::time::timeout(deadline, work).await.with_context(late)
}

async fn client(access: Access<'_>) -> anyhow::Result<Grpc<Channel>> {
    let Some(connections) = access.kept else { return connect(access).await };
    let certificate = &access.certificate.certificate_pem;
    let kept = connections.lock().get(access.server).filter(|(used, _)| used == certificate).map(|(_, client)| client.clone());
    let mut client = match kept {
        Some(client) => client,
        None => connect(access).await?,
    };
    client.ready().await?;
    connections.lock().insert(access.server.to_owned(), (certificate.clone(), client.clone()));
    Ok(client)
}

async fn connect(access: Access<'_>) -> anyhow::Result<Grpc<Channel>> {
    let identity = Identity::from_pem(&access.certificate.certificate_pem, access.certificate.key_pem.reveal());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(access.authority)).identity(identity);
    let channel = Channel::from_shared(access.server.to_owned())?.tls_config(tls)?.connect().await?;
    let mut client = Grpc::new(channel);
    client.ready().await?;
    Ok(client)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_port_is_the_one_that_etcd_is_given() {
        assert_eq!(super::SERVER, format!("https://127.0.0.1:{}", controlplane::ports::ETCD_CLIENT_PORT));
    }
}
