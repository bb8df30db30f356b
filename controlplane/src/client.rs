//! The one place of this crate that does I/O: it applies manifests to the API server and asks for health. Retries, waits and deadlines are
//! the caller's; every call may be repeated.

mod applier;
mod field;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Config};
use machine::config::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

pub use applier::{Applier, Outcome};

/// Owner of the fields that Corten applies.
pub const FIELD_MANAGER: &str = "corten";

/// How to reach a server as a client with a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `https://<host>:<port>`
    pub server: &'a str,
    /// PEM of the authorities of which one issued the server's certificate.
    pub authority: &'a str,
    /// PEM.
    pub certificate: &'a str,
    /// PEM.
    pub key: &'a Secret,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("connecting to {server}: its address is no URL")]
    BadServer { server: String },
    #[error("connecting to {server}: the authorities are no certificates in PEM")]
    BadAuthority { server: String },
    #[error("connecting to {server}")]
    Connect {
        server: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("asking for {path}")]
    Ask {
        path: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("finding out what kind {kind} is")]
    Discover {
        kind: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("applying {manifest}")]
    Apply {
        manifest: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// A connection to an API server, or to etcd's health endpoint.
#[derive(Clone)]
pub struct Client {
    kube: kube::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Asks again by itself, for some time, what the server has no time for (429, 503, 504).
    pub fn new(access: Access<'_>) -> Result<Client, ClientError> {
        Client::connect(access, |_| {})
    }

    /// Asks once: a 429 may be an answer, as that of a disruption budget to an eviction is.
    pub fn asking_once(access: Access<'_>) -> Result<Client, ClientError> {
        Client::connect(access, |config| config.default_retry = false)
    }

    fn connect(access: Access<'_>, change: impl FnOnce(&mut Config)) -> Result<Client, ClientError> {
        let server = || access.server.to_owned();
        let uri = access.server.parse().map_err(|_| ClientError::BadServer { server: server() })?;
        let mut config = Config::new(uri);
        let authorities: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(access.authority.as_bytes()).collect();
        let authorities = authorities.ok().filter(|all| !all.is_empty()).ok_or_else(|| ClientError::BadAuthority { server: server() })?;
        config.root_cert = Some(authorities.iter().map(|authority| authority.to_vec()).collect());
        // The nodes' own API servers are never behind the user's proxy.
        config.proxy_url = None;
        config.auth_info = AuthInfo {
            client_certificate_data: Some(STANDARD.encode(access.certificate)),
            client_key_data: Some(STANDARD.encode(access.key.reveal()).into()),
            ..AuthInfo::default()
        };
        change(&mut config);
        let connect = |source| ClientError::Connect { server: server(), source: Box::new(source) };
        Ok(Client { kube: kube::Client::try_from(config).map_err(connect)? })
    }

    /// For typed calls and watches.
    pub fn kube(&self) -> &kube::Client {
        &self.kube
    }

    /// Asks for a path and gives the answer's text: `/readyz?verbose` of an API server, `/health` of etcd.
    pub async fn get(&self, path: &str) -> Result<String, ClientError> {
        let failed = |source| ClientError::Ask { path: path.to_owned(), source: Box::new(source) };
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| failed(kube::Error::HttpError(error)))?;
        self.kube.request_text(request).await.map_err(failed)
    }

    /// Succeeds when the API server is ready to serve.
    pub async fn readyz(&self) -> Result<(), ClientError> {
        self.get("/readyz").await.map(drop)
    }
}
