//! The manifest with its signatures: what stands at the head of an update file and what a machine is offered.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::{KeyId, PublicKey, Signature, SigningKey};
use crate::manifest::{BadManifest, Manifest};
use crate::trust::{self, TrustedKeys, Untrusted};

/// Largest envelope: it fits into one message of gRPC (4 MiB) and holds the chunks of the largest image.
pub const MAX_ENVELOPE_BYTES: usize = 3 * 1024 * 1024;
/// Most signatures of one manifest.
pub const MAX_SIGNATURES: usize = 32;

/// A manifest that has been read and checked for sense, but for whose author there is no proof until [`SignedManifest::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    bytes: Vec<u8>,
    envelope: Envelope,
    manifest: Manifest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Envelope {
    /// The manifest's JSON as text, so that what is signed is these bytes and not a way to write them.
    manifest: String,
    signatures: Vec<SignatureOf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignatureOf {
    pub key: KeyId,
    pub signature: Signature,
}

impl SignedManifest {
    pub fn parse(bytes: &[u8]) -> Result<SignedManifest, BadManifest> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(BadManifest::TooLong { found: bytes.len() });
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(BadManifest::Envelope)?;
        if envelope.signatures.len() > MAX_SIGNATURES {
            return Err(BadManifest::TooManySignatures { found: envelope.signatures.len() });
        }
        let manifest = Manifest::parse(&envelope.manifest)?;
        Ok(SignedManifest { bytes: bytes.to_vec(), envelope, manifest })
    }

    /// A manifest of one's own, signed by all these keys.
    pub fn sign(manifest: &Manifest, keys: &[SigningKey]) -> Result<SignedManifest, BadManifest> {
        manifest.check()?;
        let text = serde_json::to_string(manifest).map_err(BadManifest::Manifest)?;
        SignedManifest::write(Envelope { manifest: text, signatures: Vec::new() })?.with_signatures_of(keys)
    }

    /// The same manifest, signed by further keys: its id stays.
    pub fn with_signatures_of(&self, keys: &[SigningKey]) -> Result<SignedManifest, BadManifest> {
        let signatures = keys.iter().map(|key| (key.public(), key.sign(self.text())));
        self.with_signatures(signatures)
    }

    /// The same manifest with signatures that were made elsewhere, by an offline key or a key service. What is signed is
    /// `corten-update-v1`, a line feed, and [`SignedManifest::text`]. A key's new signature takes the place of its old one.
    pub fn with_signatures(&self, signatures: impl IntoIterator<Item = (PublicKey, Signature)>) -> Result<SignedManifest, BadManifest> {
        let mut envelope = self.envelope.clone();
        for (key, signature) in signatures {
            let key = key.id();
            envelope.signatures.retain(|other| other.key != key);
            envelope.signatures.push(SignatureOf { key, signature });
        }
        SignedManifest::write(envelope)
    }

    fn write(envelope: Envelope) -> Result<SignedManifest, BadManifest> {
        SignedManifest::parse(&serde_json::to_vec(&envelope).map_err(BadManifest::Envelope)?)
    }

    /// Names the update: the SHA-256 of the manifest's text. Signatures do not change it.
    pub fn id(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    /// The envelope, byte for byte as it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The manifest's JSON, as it was signed.
    pub fn text(&self) -> &str {
        &self.envelope.manifest
    }

    /// The keys that the signatures name. Nobody has checked them.
    pub fn signed_by(&self) -> Vec<KeyId> {
        self.envelope.signatures.iter().map(|signature| signature.key).collect()
    }

    /// The manifest without any proof of who wrote it: to be shown, not to be acted on.
    pub fn peek(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest, if enough of the trusted keys signed it and it has not expired at `now_seconds` (since 1970).
    pub fn verify(&self, keys: &TrustedKeys, now_seconds: u64) -> Result<Manifest, Untrusted> {
        trust::signatures(keys, self.text(), &self.envelope.signatures)?;
        trust::time(&self.manifest, now_seconds)?;
        Ok(self.manifest.clone())
    }
}

#[cfg(test)]
mod tests;
