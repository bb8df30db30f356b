//! The one place of this crate that does I/O: it applies manifests to the API server and asks for health. Retries, waits and deadlines are
//! the caller's; every call may be repeated.

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::config::{AuthInfo, Config};
use kube::discovery::{ApiCapabilities, Scope};
use machine::config::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::manifests::Manifest;

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
    #[error("applying {manifest}: it is no Kubernetes object")]
    BadObject {
        manifest: String,
        #[source]
        source: serde_json::Error,
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
    pub fn new(access: Access<'_>) -> Result<Client, ClientError> {
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

    /// Applies them in order, by server-side apply; a conflict is resolved in our favour.
    pub async fn apply(&self, manifests: &[Manifest]) -> Result<(), ClientError> {
        let mut kinds = HashMap::new();
        for manifest in manifests {
            self.apply_one(manifest, &mut kinds).await?;
        }
        Ok(())
    }

    async fn apply_one(&self, manifest: &Manifest, kinds: &mut Kinds) -> Result<(), ClientError> {
        let object: DynamicObject = serde_json::from_value(manifest.object.clone())
            .map_err(|source| ClientError::BadObject { manifest: manifest.to_string(), source })?;
        let (resource, capabilities) = self.resolve(manifest, kinds).await?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.kube.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.kube.clone(), manifest.namespace.as_deref().unwrap_or("default"), &resource),
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api.patch(&manifest.name, &params, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|source| ClientError::Apply { manifest: manifest.to_string(), source: Box::new(source) })
    }

    /// What the server calls a kind and whether it is in namespaces; asked once each.
    async fn resolve(&self, manifest: &Manifest, kinds: &mut Kinds) -> Result<(ApiResource, ApiCapabilities), ClientError> {
        let kind = GroupVersionKind::gvk(manifest.group(), manifest.version(), &manifest.kind);
        if let Some(known) = kinds.get(&kind) {
            return Ok(known.clone());
        }
        let found = kube::discovery::pinned_kind(&self.kube, &kind).await;
        let found = found.map_err(|source| ClientError::Discover { kind: manifest.kind.clone(), source: Box::new(source) })?;
        kinds.insert(kind, found.clone());
        Ok(found)
    }
}

type Kinds = HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>;
