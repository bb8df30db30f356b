//! The client: the same code for every server, one call that it repeats.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::v1::{GetVersionRequest, GetVersionResponse};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

use super::etcd;
use super::identities::Identities;

/// Calls under way at a time, over all connections, when the server is to be busy.
pub const UNDER_WAY: usize = CONNECTIONS * CALLS_PER_CONNECTION;
const CONNECTIONS: usize = 4;
const CALLS_PER_CONNECTION: usize = 8;

/// What is asked, and of whom.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    GetVersion,
    EtcdStatus,
}

impl Call {
    fn port(self) -> u16 {
        match self {
            Call::GetVersion => api::PORT,
            Call::EtcdStatus => etcd::PORT,
        }
    }

    /// Asks once. Both answers tell the server's version; one without it is not the answer.
    async fn ask(self, client: &mut Grpc<Channel>) -> anyhow::Result<()> {
        let version = match self {
            Call::GetVersion => {
                let path = PathAndQuery::from_static("/corten.machine.v1.Machine/GetVersion");
                unary::<_, GetVersionResponse>(client, path, GetVersionRequest {}).await?.version
            }
            Call::EtcdStatus => {
                let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
                unary::<_, etcd::StatusResponse>(client, path, etcd::StatusRequest {}).await?.version
            }
        };
        ensure!(!version.is_empty(), "{self:?}: the answer has no version");
        Ok(())
    }
}

async fn unary<Q, A>(client: &mut Grpc<Channel>, path: PathAndQuery, question: Q) -> anyhow::Result<A>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    client.ready().await?;
    let answer = client.unary(tonic::Request::new(question), path.clone(), ProstCodec::<Q, A>::default()).await;
    Ok(answer.with_context(|| path.to_string())?.into_inner())
}

/// A connection to the server at that port.
pub async fn connect(port: u16, identities: &Identities) -> anyhow::Result<Channel> {
    let client = &identities.client;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&identities.authority_pem))
        .identity(Identity::from_pem(&client.certificate_pem, client.key_pem.reveal()));
    let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?.tls_config(tls)?;
    endpoint.connect().await.with_context(|| format!("connecting to {}", endpoint.uri()))
}

/// Connections to one server.
#[derive(Debug)]
pub struct Caller {
    call: Call,
    channels: Vec<Channel>,
}

impl Caller {
    pub async fn connect(call: Call, identities: &Identities) -> anyhow::Result<Caller> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            channels.push(connect(call.port(), identities).await?);
        }
        Ok(Caller { call, channels })
    }

    /// Calls one after the other on one connection: how long each took.
    pub async fn one_by_one(&self, calls: usize) -> anyhow::Result<Vec<Duration>> {
        let mut client = Grpc::new(self.channels[0].clone());
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let began = Instant::now();
            self.call.ask(&mut client).await?;
            times.push(began.elapsed());
        }
        Ok(times)
    }

    /// Keeps calls under way on all connections for that long: how many were answered.
    pub async fn many_at_once(&self, time: Duration) -> anyhow::Result<usize> {
        let until = Instant::now() + time;
        let mut tasks = tokio::task::JoinSet::new();
        for channel in self.channels.iter().flat_map(|channel| std::iter::repeat_n(channel, CALLS_PER_CONNECTION)) {
            let (call, mut client) = (self.call, Grpc::new(channel.clone()));
            tasks.spawn(async move {
                let mut answered = 0;
                while Instant::now() < until {
                    call.ask(&mut client).await?;
                    answered += 1;
                }
                anyhow::Ok(answered)
            });
        }
        let mut answered = 0;
        while let Some(task) = tasks.join_next().await {
            answered += task??;
        }
        Ok(answered)
    }
}
