//! Gets a kubelet's certificate by a CertificateSigningRequest: the cluster's control planes grant it, and the controller manager signs it.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use controlplane::pki::{self, CertificateId, CertificateSpec, Issued, Unsigned, Usage, key_id};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use machine::config::Config;
use tokio::time::{Instant, interval, timeout};

use super::problem::Problem;
use crate::controllers::api;
use crate::resources::signing_requests::{CLIENT_SIGNER, SERVING_SIGNER};

const DEADLINE: Duration = Duration::from_secs(60);
/// The API server answers within milliseconds; on a busy one within seconds.
const ANSWER: Duration = Duration::from_secs(15);
/// Between two looks at a request that is not signed yet.
const LOOK: Duration = Duration::from_millis(500);

/// Who signs what.
fn signer(id: CertificateId) -> &'static str {
    match id {
        CertificateId::KubeletServer => SERVING_SIGNER,
        _ => CLIENT_SIGNER,
    }
}

pub async fn certificate(config: &Config, spec: &CertificateSpec, identity: &Issued) -> Result<Issued, Problem> {
    let local = |error: anyhow::Error| Problem::new("REQUEST", format!("certificate {}: {error:#}", spec.id));
    let unsigned = pki::signing_request(&spec.request).map_err(|error| local(error.into()))?;
    let client = api::balanced(config, identity).map_err(local)?;
    let requests: Api<CertificateSigningRequest> = Api::all(client.kube().clone());
    let name = file(&requests, spec, &unsigned).await.map_err(local)?;
    let certificate_pem = signed(&requests, spec, &name).await?;
    checked(config, spec, unsigned, certificate_pem).map_err(local)
}

async fn file(requests: &Api<CertificateSigningRequest>, spec: &CertificateSpec, unsigned: &Unsigned) -> anyhow::Result<String> {
    let key = key_id(&pki::public_key(&unsigned.key_pem)?);
    let name = format!("corten-{}-{}", spec.id, key.get(..16).unwrap_or_default());
    let usage = match spec.request.usage {
        Usage::Server => "server auth",
        Usage::Client | Usage::Both => "client auth",
    };
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(unsigned.request_pem.clone().into_bytes()),
            signer_name: signer(spec.id).to_owned(),
            usages: Some(vec!["digital signature".to_owned(), usage.to_owned()]),
            expiration_seconds: i32::try_from(spec.request.lifetime.as_secs()).ok(),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let filed = timeout(ANSWER, requests.create(&PostParams::default(), &request)).await;
    let filed = filed.with_context(|| format!("filing CertificateSigningRequest {name}: no answer within {} s", ANSWER.as_secs()))?;
    filed.with_context(|| format!("filing CertificateSigningRequest {name}"))?;
    Ok(name)
}

/// Waits for the certificate, or for somebody to say no.
async fn signed(requests: &Api<CertificateSigningRequest>, spec: &CertificateSpec, name: &str) -> Result<String, Problem> {
    let deadline = Instant::now() + DEADLINE;
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        // An answer that was lost is asked for again.
        let Ok(asked) = timeout(ANSWER, requests.get(name)).await else {
            ensure_in_time(deadline, spec, name)?;
            continue;
        };
        let asked = asked.with_context(|| format!("reading CertificateSigningRequest {name}"));
        let status =
            asked.map_err(|error| Problem::new("REQUEST", format!("certificate {}: {error:#}", spec.id)))?.status.unwrap_or_default();
        if let Some(ByteString(certificate)) = status.certificate {
            return Ok(String::from_utf8_lossy(&certificate).into_owned());
        }
        let refused = status.conditions.into_iter().flatten().find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed"));
        if let Some(refused) = refused {
            let why = refused.message.or(refused.reason).unwrap_or_default();
            return Err(Problem::new("REQUEST_DENIED", format!("certificate {}: the cluster denied request {name}: {why}", spec.id)));
        }
        ensure_in_time(deadline, spec, name)?;
    }
}

fn ensure_in_time(deadline: Instant, spec: &CertificateSpec, name: &str) -> Result<(), Problem> {
    let waited = DEADLINE.as_secs();
    let late = || Problem::new("REQUEST_PENDING", format!("certificate {}: request {name} was not granted within {waited} s", spec.id));
    if Instant::now() < deadline { Ok(()) } else { Err(late()) }
}

/// A certificate of the authority, for our key: anything else is not written.
pub fn checked(config: &Config, spec: &CertificateSpec, unsigned: Unsigned, certificate_pem: String) -> anyhow::Result<Issued> {
    // Of the one that issues: another's would be asked for again at once.
    let authority = pki::issuing(&spec.authority.of(&config.cluster.certificate_authorities).certificate);
    let found = pki::Certificate::inspect(&certificate_pem)?;
    pki::verify_chain(&certificate_pem, authority, SystemTime::now().max(found.not_before))?;
    ensure!(found.public_key == pki::public_key(&unsigned.key_pem)?, "it is for another key");
    Ok(unsigned.certified(certificate_pem))
}
