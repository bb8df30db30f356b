//! kube-apiserver's files: certificates, keys, and its three configuration files.

use std::path::PathBuf;

use machine::config::Config;
use serde_json::{Value, json};

use crate::credentials::Credentials;
use crate::pki::{self, AuthorityId, CertificateId};
use crate::render::{Files, Read, RenderError};

/// Where the flags find them. Pairs are certificate and key.
pub(super) struct Paths {
    pub serving: (PathBuf, PathBuf),
    pub client_authority: PathBuf,
    pub etcd: (PathBuf, PathBuf),
    pub etcd_authority: PathBuf,
    pub kubelet: (PathBuf, PathBuf),
    pub kubelet_authority: PathBuf,
    pub front_proxy: (PathBuf, PathBuf),
    pub front_proxy_authority: PathBuf,
    pub service_account: PathBuf,
    pub service_account_public: PathBuf,
    pub authentication: PathBuf,
    pub encryption: PathBuf,
    pub audit_policy: PathBuf,
}

pub(super) fn add(files: &mut Files, config: &Config, credentials: &Credentials) -> Result<Paths, RenderError> {
    let authority = |id: AuthorityId| id.of(&config.cluster.certificate_authorities).certificate.as_str();
    let signer = credentials.service_account_key()?;
    let public = pki::public_key_pem(signer).map_err(|error| RenderError::BadField {
        field: "cluster.serviceAccountKey".to_owned(),
        found: error.to_string(),
        expected: "a private key in PKCS#8 PEM",
    })?;
    Ok(Paths {
        serving: files.add_issued("serving", credentials.certificate(CertificateId::ApiServer)?),
        client_authority: files.add("client-ca.crt", authority(AuthorityId::Kubernetes), Read::Again),
        etcd: files.add_issued("etcd-client", credentials.certificate(CertificateId::ApiServerEtcdClient)?),
        etcd_authority: files.add("etcd-ca.crt", authority(AuthorityId::EtcdClient), Read::AtStart),
        kubelet: files.add_issued("kubelet-client", credentials.certificate(CertificateId::ApiServerKubeletClient)?),
        kubelet_authority: files.add("kubelet-ca.crt", authority(AuthorityId::Kubelet), Read::AtStart),
        front_proxy: files.add_issued("front-proxy-client", credentials.certificate(CertificateId::FrontProxyClient)?),
        front_proxy_authority: files.add("front-proxy-ca.crt", authority(AuthorityId::FrontProxy), Read::Again),
        service_account: files.add_secret("service-account.key", signer, Read::AtStart),
        service_account_public: files.add("service-account.pub", public, Read::AtStart),
        authentication: files.add("authentication.yaml", yaml("the authentication configuration", &authentication())?, Read::Again),
        encryption: files.add("encryption.yaml", yaml("the encryption configuration", &encryption(credentials)?)?, Read::Again),
        audit_policy: files.add("audit-policy.yaml", yaml("the audit policy", &audit_policy(config))?, Read::AtStart),
    })
}

fn yaml(what: &'static str, value: &Value) -> Result<String, RenderError> {
    crate::yaml::to_string(value).map_err(|source| RenderError::Yaml { what, source: source.into() })
}

/// Anonymous requests reach the health checks and nothing else: balancers ask them.
fn authentication() -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {
            "enabled": true,
            "conditions": [{ "path": "/livez" }, { "path": "/readyz" }, { "path": "/healthz" }],
        },
    })
}

/// New Secrets are encrypted; what was written before is still read. secretbox needs no counter and no rotation after so many writes, as
/// aesgcm would.
fn encryption(credentials: &Credentials) -> Result<Value, RenderError> {
    let key = credentials.encryption_key()?.reveal();
    Ok(json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [{ "secretbox": { "keys": [{ "name": "key1", "secret": key }] } }, { "identity": {} }],
        }],
    }))
}

fn audit_policy(config: &Config) -> Value {
    let users = &config.cluster.api_server.audit_policy;
    if users.is_empty() { default_audit_policy() } else { with_header(Value::Object(users.clone())) }
}

/// The type of the file is ours to say, whatever the user's fields are.
fn with_header(mut policy: Value) -> Value {
    policy["apiVersion"] = json!("audit.k8s.io/v1");
    policy["kind"] = json!("Policy");
    policy
}

/// The metadata of everything but health checks and events, once per request.
fn default_audit_policy() -> Value {
    with_header(json!({
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"] },
            { "level": "None", "resources": [{ "group": "", "resources": ["events"] }, { "group": "events.k8s.io", "resources": ["events"] }] },
            { "level": "Metadata" },
        ],
    }))
}
