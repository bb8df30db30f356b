//! The keys that sign updates: Ed25519 (RFC 8032).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::printable;

/// What comes before the manifest's text in the bytes that are signed: a signature for an update can never be taken for one of anything else.
const CONTEXT: &[u8] = b"corten-update-v1\n";

/// PKCS #8 of an Ed25519 key, version 1, up to its 32 bytes (RFC 8410, section 7). OpenSSL reads and writes the same.
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    #[error("key {0:?}; expected the base64 of 32 bytes, an Ed25519 public key")]
    Public(String),
    #[error("key id {0:?}; expected 16 lower-case hexadecimal digits")]
    Id(String),
    #[error("signature {0:?}; expected the base64 of 64 bytes")]
    Signature(String),
    #[error("no Ed25519 private key; expected PEM with a block PRIVATE KEY (PKCS #8), as `openssl genpkey -algorithm ed25519` writes it")]
    Private,
    #[error("the system has no random numbers")]
    Random,
}

/// The bytes that a key signs.
fn signed_bytes(manifest_text: &str) -> Vec<u8> {
    [CONTEXT, manifest_text.as_bytes()].concat()
}

/// A private key.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    pub fn generate() -> Result<SigningKey, BadKey> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| BadKey::Random)?;
        SigningKey::from_seed(&seed)
    }

    /// The key of RFC 8032's 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Result<SigningKey, BadKey> {
        SigningKey::from_pkcs8([&PKCS8_PREFIX[..], seed].concat())
    }

    /// Reads PKCS #8 in PEM; what stands around the block is ignored.
    pub fn from_pem(pem: &str) -> Result<SigningKey, BadKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| BadKey::Private)?;
        SigningKey::from_pkcs8(der.secret_pkcs8_der().to_vec())
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> Result<SigningKey, BadKey> {
        // "Maybe unchecked": version 1 has no public key that could be compared.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| BadKey::Private)?;
        Ok(SigningKey { pkcs8, pair })
    }

    /// PKCS #8 in PEM. Whoever writes it to a file gives that mode 0600.
    pub fn to_pem(&self) -> String {
        let body = BASE64_STANDARD.encode(&self.pkcs8);
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for line in body.as_bytes().chunks(64) {
            pem.extend(line.iter().map(|byte| char::from(*byte)));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        pem
    }

    pub fn public(&self) -> PublicKey {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(public)
    }

    /// Signs a manifest.
    pub fn sign(&self, manifest_text: &str) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(&signed_bytes(manifest_text)).as_ref());
        Signature(signature)
    }
}

impl fmt::Debug for SigningKey {
    /// Its id only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

/// An Ed25519 public key. As text, and in JSON, the base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// What a signature names its key by.
    pub fn id(&self) -> KeyId {
        let Digest(digest) = Digest::of(&self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }

    /// Whether this key made the signature of this manifest.
    pub fn signed(&self, manifest_text: &str, signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&signed_bytes(manifest_text), &signature.0).is_ok()
    }
}

/// The first 8 bytes of the SHA-256 of a public key: to find the key, not to prove it. As text 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub [u8; 8]);

/// An Ed25519 signature. As text, and in JSON, the base64 of its 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(pub [u8; 64]);

/// Standard base64 with padding, of exactly so many bytes.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    // No longer than N bytes can be, and never more than there is room for.
    (text.len() <= N.div_ceil(3) * 4).then(|| BASE64_STANDARD.decode(text).ok()?.try_into().ok()).flatten()
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<PublicKey, BadKey> {
        decode(text).map(PublicKey).ok_or_else(|| BadKey::Public(printable::shorten(text)))
    }
}

impl FromStr for Signature {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Signature, BadKey> {
        decode(text).map(Signature).ok_or_else(|| BadKey::Signature(printable::shorten(text)))
    }
}

impl FromStr for KeyId {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<KeyId, BadKey> {
        let mut id = [0; 8];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut id) {
            Ok(()) if lower => Ok(KeyId(id)),
            _ => Err(BadKey::Id(printable::shorten(text))),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Text in both directions, as serde's `try_from` and `into` want it.
macro_rules! as_text {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = BadKey;

            fn try_from(text: String) -> Result<$type, BadKey> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
    )*};
}

as_text!(PublicKey, Signature, KeyId);

#[cfg(test)]
mod tests;
