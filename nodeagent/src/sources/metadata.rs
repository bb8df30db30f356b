//! Asks the metadata services of clouds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::body::Bytes;

use super::fetch::{Answer, Deadlines, Server, fetch};
use super::{aws, azure, gcp, openstack};

/// Where all four clouds have it: a link-local address that the host under the machine answers.
pub const ADDRESS: &str = "169.254.169.254";
const PORT: u16 = 80;

/// A client of one machine's metadata service.
#[derive(Debug)]
pub struct Metadata {
    server: Server,
    deadlines: Deadlines,
    /// EC2's, kept from one request to the next.
    token: Option<HeaderValue>,
}

/// The service's address in production.
pub fn address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), PORT)
}

impl Metadata {
    pub fn new(address: SocketAddr, deadlines: Deadlines) -> Metadata {
        Metadata { server: Server { address, tls: None }, deadlines, token: None }
    }

    pub async fn aws(&mut self) -> anyhow::Result<Option<Bytes>> {
        if let Some(token) = self.token.take() {
            let answer = self.get(aws::request(&token)).await?;
            if !aws::needs_token(&answer) {
                self.token = Some(token);
                return Ok(aws::user_data(answer)?);
            }
        }
        let token = aws::token(&self.get(aws::token_request()).await?)?;
        let answer = self.get(aws::request(&token)).await?;
        self.token = Some(token).filter(|_| !aws::needs_token(&answer));
        Ok(aws::user_data(answer)?)
    }

    pub async fn gcp(&self) -> anyhow::Result<Option<Bytes>> {
        Ok(gcp::user_data(self.get(gcp::request()).await?)?)
    }

    pub async fn azure(&self) -> anyhow::Result<Option<Bytes>> {
        Ok(azure::user_data(self.get(azure::request()).await?)?)
    }

    pub async fn openstack(&self) -> anyhow::Result<Option<Bytes>> {
        Ok(openstack::user_data(self.get(openstack::request()).await?)?)
    }

    async fn get(&self, request: http::Result<Request<Empty<Bytes>>>) -> anyhow::Result<Answer> {
        Ok(fetch(&self.server, request?, self.deadlines).await?)
    }
}
