//! Calls of the kubelet's interface to the runtime (CRI v1), whose messages are written where they are used, but for one that two use.

use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

const SERVICE: &str = "/runtime.v1.RuntimeService";

/// Whose a pod's sandbox is.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// `()` is the message without fields: everything is asked for, or nothing answered.
pub async fn ask<Q, A>(channel: &Channel, method: &str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(format!("{SERVICE}/{method}")).map_err(|error| Status::internal(error.to_string()))?;
    let answer = client.unary(Request::new(request), path, ProstCodec::default()).await?;
    Ok(answer.into_inner())
}
