//! Asks the metadata services of clouds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::body::Bytes;

use super::fetch::{Answer, Deadlines, Server, fetch};
use super::{aws, azure, gcp, instance, openstack};

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

/// Whether machines of a platform have a metadata service.
pub fn is_there(platform: &str) -> bool {
    matches!(platform, "aws" | "azure" | "gcp" | "openstack")
}

/// The service's address in production.
pub fn address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), PORT)
}

impl Metadata {
    pub fn new(address: SocketAddr, deadlines: Deadlines) -> Metadata {
        Metadata { server: Server { address, tls: None }, deadlines, token: None }
    }

    /// The one in production.
    pub fn of_this_machine() -> Metadata {
        Metadata::new(address(), Deadlines::default())
    }

    pub async fn aws(&mut self) -> anyhow::Result<Option<Bytes>> {
        Ok(aws::user_data(self.get_from_aws(aws::USER_DATA).await?)?)
    }

    /// The token is used until it has run out.
    async fn get_from_aws(&mut self, path: &'static str) -> anyhow::Result<Answer> {
        if let Some(token) = self.token.take() {
            let answer = self.get(aws::request(path, &token)).await?;
            if !aws::needs_token(&answer) {
                self.token = Some(token);
                return Ok(answer);
            }
        }
        let token = aws::token(&self.get(aws::token_request()).await?)?;
        let answer = self.get(aws::request(path, &token)).await?;
        self.token = Some(token).filter(|_| !aws::needs_token(&answer));
        Ok(answer)
    }

    pub async fn gcp(&self) -> anyhow::Result<Option<Bytes>> {
        Ok(gcp::user_data(self.get(gcp::request(gcp::USER_DATA)).await?)?)
    }

    pub async fn azure(&self) -> anyhow::Result<Option<Bytes>> {
        Ok(azure::user_data(self.get(azure::request(azure::USER_DATA)).await?)?)
    }

    pub async fn openstack(&self) -> anyhow::Result<Option<Bytes>> {
        Ok(openstack::user_data(self.get(openstack::request(openstack::USER_DATA)).await?)?)
    }

    /// Which machine of its cloud this one is, as the cloud's controller names it.
    pub async fn provider_id(&mut self, platform: &str) -> anyhow::Result<String> {
        let asking = || format!("asking the metadata service of {platform} which machine this is");
        self.ask_for_provider_id(platform).await.with_context(asking)
    }

    async fn ask_for_provider_id(&mut self, platform: &str) -> anyhow::Result<String> {
        Ok(match platform {
            "aws" => instance::aws(self.get_from_aws(aws::IDENTITY).await?)?,
            "gcp" => {
                let [project, zone, name] = [gcp::PROJECT, gcp::ZONE, gcp::NAME_OF_INSTANCE];
                let (project, zone) = (self.get(gcp::request(project)).await?, self.get(gcp::request(zone)).await?);
                instance::gcp(project, zone, self.get(gcp::request(name)).await?)?
            }
            "azure" => instance::azure(self.get(azure::request(azure::COMPUTE)).await?)?,
            "openstack" => instance::openstack(self.get(openstack::request(openstack::META_DATA)).await?)?,
            other => anyhow::bail!("platform {other:?} has no metadata service"),
        })
    }

    async fn get(&self, request: http::Result<Request<Empty<Bytes>>>) -> anyhow::Result<Answer> {
        Ok(fetch(&self.server, request?, self.deadlines).await?)
    }
}
