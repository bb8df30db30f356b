//! A cluster's secrets: what must never be lost and stay offline. All machine configs of the cluster can be made from it again.

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use machine::config::{CertificateAuthorities, CertificateAuthority, Secret};
use rcgen::KeyPair;
use serde::{Deserialize, Serialize};

use crate::pki::{Authority, AuthorityId, CertificateRequest, Issued, PkiError};

pub const API_VERSION: &str = "corten.dev/v1";
pub const KIND: &str = "Secrets";

/// How long authorities are valid. They outlive machines; changing one is a rotation of its own.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Secrets {
    /// Always `corten.dev/v1`.
    pub api_version: String,
    /// Always `Secrets`.
    pub kind: String,
    /// With their keys.
    pub certificate_authorities: CertificateAuthorities,
    /// PEM, PKCS#8.
    pub service_account_key: Secret,
    /// 32 bytes in base64.
    pub encryption_key: Secret,
    /// `<6 characters>.<16 characters>`.
    pub join_token: Secret,
}

#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("reading the secrets file")]
    Parse(#[source] Box<serde_saphyr::Error>),
    #[error("secrets file: {field} is {found:?}; expected {expected:?}")]
    Header { field: &'static str, found: String, expected: &'static str },
    #[error("secrets file: certificateAuthorities.{0} has no key; expected the file that `machinectl gen config` wrote")]
    MissingKey(AuthorityId),
    #[error("secrets file: certificateAuthorities.{authority}")]
    BadAuthority {
        authority: AuthorityId,
        #[source]
        source: PkiError,
    },
    #[error("secrets file: encryptionKey is not 32 bytes in base64")]
    BadEncryptionKey,
    #[error("secrets file: serviceAccountKey is no private key in PKCS#8 PEM")]
    BadServiceAccountKey,
    #[error("secrets file: joinToken is not <6 characters>.<16 characters> of a-z and 0-9")]
    BadJoinToken,
    #[error("making a key")]
    Generate(#[from] PkiError),
    #[error("writing the secrets file")]
    Write(#[source] Box<serde_saphyr::SerializeError>),
}

impl Secrets {
    /// All new.
    pub fn generate(now: SystemTime) -> Result<Secrets, SecretsError> {
        let service_account = KeyPair::generate().map_err(PkiError::Sign)?;
        Ok(Secrets {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            certificate_authorities: CertificateAuthorities {
                kubernetes: authority("Kubernetes", now)?,
                kubelet: authority("kubelet serving", now)?,
                etcd_peer: authority("etcd peers", now)?,
                etcd_client: authority("etcd clients", now)?,
                front_proxy: authority("Kubernetes front proxy", now)?,
                machine: authority("Corten machine API", now)?,
            },
            service_account_key: Secret::new(service_account.serialize_pem()),
            encryption_key: Secret::new(STANDARD.encode(random::<32>()?)),
            join_token: join_token()?,
        })
    }

    /// Reads and checks a secrets file: each authority's key is its certificate's, the other keys have their form.
    pub fn from_yaml(text: &str) -> Result<Secrets, SecretsError> {
        let secrets: Secrets = crate::yaml::from_str(text).map_err(|error| SecretsError::Parse(error.into()))?;
        for (field, found, expected) in [("apiVersion", &secrets.api_version, API_VERSION), ("kind", &secrets.kind, KIND)] {
            if found != expected {
                return Err(SecretsError::Header { field, found: found.clone(), expected });
            }
        }
        secrets.check()?;
        Ok(secrets)
    }

    pub fn to_yaml(&self) -> Result<String, SecretsError> {
        crate::yaml::to_string(self).map_err(|error| SecretsError::Write(error.into()))
    }

    fn check(&self) -> Result<(), SecretsError> {
        for id in AuthorityId::ALL {
            self.authority(id)?;
        }
        if KeyPair::from_pem(self.service_account_key.reveal()).is_err() {
            return Err(SecretsError::BadServiceAccountKey);
        }
        if !STANDARD.decode(self.encryption_key.reveal()).is_ok_and(|key| key.len() == 32) {
            return Err(SecretsError::BadEncryptionKey);
        }
        if is_join_token(self.join_token.reveal()) { Ok(()) } else { Err(SecretsError::BadJoinToken) }
    }

    /// One of the authorities, ready to issue.
    pub fn authority(&self, id: AuthorityId) -> Result<Authority, SecretsError> {
        let pair = id.of(&self.certificate_authorities);
        let key = pair.key.as_ref().ok_or(SecretsError::MissingKey(id))?;
        Authority::from_pem(&pair.certificate, key.reveal()).map_err(|source| SecretsError::BadAuthority { authority: id, source })
    }

    /// Issues offline, as `machinectl gen client` does.
    pub fn issue(&self, id: AuthorityId, request: &CertificateRequest, now: SystemTime) -> Result<Issued, SecretsError> {
        Ok(self.authority(id)?.issue(request, now)?)
    }
}

fn authority(name: &str, now: SystemTime) -> Result<CertificateAuthority, PkiError> {
    let authority = Authority::generate(name, now, AUTHORITY_LIFETIME)?;
    Ok(CertificateAuthority { certificate: authority.certificate_pem().to_owned(), key: Some(authority.key_pem()) })
}

const TOKEN_LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A new join token.
pub fn join_token() -> Result<Secret, PkiError> {
    let (id, secret) = (letters(6)?, letters(16)?);
    Ok(Secret::new(format!("{id}.{secret}")))
}

fn is_join_token(text: &str) -> bool {
    let legal = |part: &str, length| part.len() == length && part.bytes().all(|letter| TOKEN_LETTERS.contains(&letter));
    text.split_once('.').is_some_and(|(id, secret)| legal(id, 6) && legal(secret, 16))
}

/// Each letter equally likely: octets from 252 on would favour the first four.
fn letters(count: usize) -> Result<String, PkiError> {
    let mut text = String::with_capacity(count);
    while text.len() < count {
        let fair = random::<32>()?.into_iter().filter(|octet| *octet < 252);
        let letters = fair.map(|octet| char::from(TOKEN_LETTERS[usize::from(octet) % TOKEN_LETTERS.len()]));
        text.extend(letters.take(count - text.len()));
    }
    Ok(text)
}

fn random<const N: usize>() -> Result<[u8; N], PkiError> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(PkiError::Random)?;
    Ok(octets)
}

#[cfg(test)]
mod tests;
