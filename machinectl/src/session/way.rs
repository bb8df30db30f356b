//! The way to a machine: its own API, or that of a control plane which passes the calls on.

use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use machine::config::HostPort;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::Service;

use crate::failure::Failure;

/// What a control plane is told: which machine is meant.
const NODE: &str = "corten-node";

#[derive(Debug, Clone)]
pub struct Way {
    channel: Channel,
    /// None where the channel ends at the machine itself.
    node: Option<HeaderValue>,
}

impl Way {
    pub fn direct(channel: Channel) -> Way {
        Way { channel, node: None }
    }

    pub fn through(channel: Channel, node: &HostPort) -> Result<Way, Failure> {
        let node = HeaderValue::from_str(&node.to_string()).map_err(|error| Failure::of(node, &error))?;
        Ok(Way { channel, node: Some(node) })
    }
}

impl Service<Request<Body>> for Way {
    type Response = Response<Body>;
    type Error = Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(node) = &self.node {
            request.headers_mut().insert(NODE, node.clone());
        }
        self.channel.call(request)
    }
}
