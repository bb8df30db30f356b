//! Snapshots in a bucket of S3-compatible storage: listed, uploaded in parts, read back in pieces, removed. Little is ever held in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use hyper::body::Bytes;
use machine::config::{Host, S3Bucket, Url};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::signature::{Signed, Signer, encoded};
use crate::names;
use crate::node::Node;
use crate::sources::fetch::{Answer, Deadlines, Server, fetch};
use crate::sources::trust;

/// Size of a part; S3 takes at most 10,000 of them, each but the last of at least 5 MiB.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Size of a piece that is read back: what an answer may have.
const PIECE_BYTES: u64 = 1024 * 1024;
const DEADLINES: Deadlines = Deadlines { connect: Duration::from_secs(10), whole: Duration::from_secs(300) };
/// How often a request is tried that met a broken connection or a server in trouble.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Bucket {
    node: Node,
    config: S3Bucket,
    url: Url,
    tls: Option<Arc<ClientConfig>>,
}

/// An object on its way in.
#[derive(Debug)]
pub struct Upload<'a> {
    bucket: &'a Bucket,
    name: String,
    id: String,
    part: Vec<u8>,
    /// Of the parts that are there.
    tags: Vec<String>,
}

impl Bucket {
    pub fn new(node: &Node, config: &S3Bucket) -> anyhow::Result<Bucket> {
        let url: Url = config.endpoint.parse().with_context(|| format!("cluster.etcd.snapshots.s3.endpoint {:?}", config.endpoint))?;
        let tls = url.tls.then(|| trust::authorities(&node.root, config.ca.as_deref())).transpose()?;
        Ok(Bucket { node: node.clone(), config: config.clone(), url, tls })
    }

    /// Names of the objects below the prefix, without it.
    pub async fn list(&self) -> anyhow::Result<Vec<String>> {
        let (mut names, mut token) = (Vec::new(), None);
        loop {
            let mut query = vec![("list-type", "2".to_owned()), ("prefix", self.config.prefix.clone())];
            query.extend(token.take().map(|token| ("continuation-token", token)));
            let answer = self.ask(Method::GET, "", &query, &[], Bytes::new()).await.context("listing the bucket")?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            names.extend(elements(&text, "Key").filter_map(|key| Some(key.strip_prefix(&self.config.prefix)?.to_owned())));
            token = elements(&text, "NextContinuationToken").next();
            if token.is_none() {
                return Ok(names);
            }
        }
    }

    pub async fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.ask(Method::DELETE, name, &[], &[], Bytes::new()).await.with_context(|| format!("removing {name}")).map(drop)
    }

    /// A piece from there on, of an object of so many bytes.
    pub async fn read(&self, name: &str, offset: u64, bytes: u64) -> anyhow::Result<Bytes> {
        let last = (offset + PIECE_BYTES).min(bytes) - 1;
        let range = format!("bytes={offset}-{last}");
        let answer = self.ask(Method::GET, name, &[], &[("range", &range)], Bytes::new()).await;
        Ok(answer.with_context(|| format!("reading {name} back"))?.body)
    }

    pub async fn upload(&self, name: &str) -> anyhow::Result<Upload<'_>> {
        let answer = self.ask(Method::POST, name, &[("uploads", String::new())], &[], Bytes::new()).await;
        let answer = answer.with_context(|| format!("beginning to upload {name}"))?;
        let text = String::from_utf8_lossy(&answer.body);
        let id = elements(&text, "UploadId").next().with_context(|| format!("beginning to upload {name}: the answer names no upload"))?;
        Ok(Upload { bucket: self, name: name.to_owned(), id, part: Vec::new(), tags: Vec::new() })
    }

    /// Tries again what met a broken connection or a server in trouble; every request may be repeated.
    async fn ask(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let answer = self.ask_once(method.clone(), name, query, headers, body.clone()).await;
            let lasting = match &answer {
                Ok(answer) => !answer.status.is_server_error() && answer.status.as_u16() != 429,
                Err(_) => false,
            };
            if lasting || attempt == TRIES {
                let answer = answer?;
                let text = String::from_utf8_lossy(&answer.body);
                // Completing an upload may fail in an answer that began well.
                if answer.status.is_success() && !text.contains("<Error>") {
                    return Ok(answer);
                }
                let said = |tag| elements(&text, tag).next().unwrap_or_default();
                bail!("status {} {} {}", answer.status.as_u16(), said("Code"), said("Message"));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        bail!("it was not tried")
    }

    async fn ask_once(
        &self,
        method: Method,
        name: &str,
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let key = if name.is_empty() { String::new() } else { format!("/{}{name}", self.config.prefix) };
        let path = encoded(&format!("/{}{key}", self.config.bucket), true);
        let mut query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
        query.sort();
        let query = query.join("&");
        let payload_sha256 = hex::encode(Sha256::digest(&body));
        let time = OffsetDateTime::now_utc().format(format_description!("[year][month][day]T[hour][minute][second]Z"))?;
        let mut signed = vec![("host", self.url.authority.as_str()), ("x-amz-content-sha256", &payload_sha256), ("x-amz-date", &time)];
        signed.extend_from_slice(headers);
        signed.sort_unstable();
        let signer = Signer {
            access_key_id: &self.config.access_key_id,
            secret_access_key: self.config.secret_access_key.reveal().trim(),
            region: &self.config.region,
        };
        let parts =
            Signed { method: method.as_str(), path: &path, query: &query, headers: &signed, payload_sha256: &payload_sha256, time: &time };
        let authorization = signer.authorization(&parts);
        let target = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let mut request = Request::builder().method(method).uri(target).header("authorization", authorization);
        for (name, value) in &signed {
            request = request.header(*name, *value);
        }
        Ok(fetch(&self.server().await?, request.body(Full::new(body))?, DEADLINES).await?)
    }

    async fn server(&self) -> anyhow::Result<Server> {
        let to = &self.url.server;
        let addresses = names::addresses(&self.node, &to.host.to_string()).await?;
        let address = SocketAddr::new(*addresses.first().with_context(|| format!("{} has no address", to.host))?, to.port);
        let name = match &to.host {
            Host::Address(address) => ServerName::IpAddress((*address).into()),
            Host::Name(name) => ServerName::try_from(name.clone())?,
        };
        Ok(Server { address, tls: self.tls.clone().map(|tls| (tls, name)) })
    }
}

impl Upload<'_> {
    pub async fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.part.extend_from_slice(bytes);
        while self.part.len() >= PART_BYTES {
            let rest = self.part.split_off(PART_BYTES);
            let part = std::mem::replace(&mut self.part, rest);
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Vec<u8>) -> anyhow::Result<()> {
        let number = self.tags.len() + 1;
        let query = [("partNumber", number.to_string()), ("uploadId", self.id.clone())];
        let answer = self.bucket.ask(Method::PUT, &self.name, &query, &[], Bytes::from(part)).await;
        let answer = answer.with_context(|| format!("uploading part {number} of {}", self.name))?;
        self.tags.push(tag(&answer.headers).with_context(|| format!("uploading part {number} of {}: the answer has no ETag", self.name))?);
        Ok(())
    }

    pub async fn complete(mut self) -> anyhow::Result<()> {
        let last = std::mem::take(&mut self.part);
        if let Err(error) = self.send(last).await {
            self.abort().await;
            return Err(error);
        }
        let part = |(index, tag): (usize, &String)| format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", index + 1);
        let parts: String = self.tags.iter().enumerate().map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let query = [("uploadId", self.id.clone())];
        let done = self.bucket.ask(Method::POST, &self.name, &query, &[], Bytes::from(body)).await;
        done.with_context(|| format!("completing the upload of {}", self.name)).map(drop)
    }

    /// What came is dropped, where the server can be reached.
    pub async fn abort(self) {
        let query = [("uploadId", self.id.clone())];
        if let Err(error) = self.bucket.ask(Method::DELETE, &self.name, &query, &[], Bytes::new()).await {
            tracing::warn!("dropping the upload of {}: {error:#}", self.name);
        }
    }
}

fn tag(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("etag")?.to_str().ok()?.replace('"', "&quot;"))
}

/// The texts of all elements of that name: S3's answers are flat, and names have nothing to be unescaped but what is done here.
fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let start = rest.find(&open)? + open.len();
        let end = start + rest[start..].find(&close)?;
        let text = &rest[start..end];
        rest = &rest[end + close.len()..];
        let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
        Some(plain.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain)))
    })
}
