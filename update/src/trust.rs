//! Whose updates a machine takes, and until when.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::envelope::SignatureOf;
use crate::key::{KeyId, PublicKey};
use crate::manifest::Manifest;

/// A clock so far behind the time at which an update was built is wrong; within it may be the build host's that is.
const CLOCK_TOLERANCE_SECONDS: u64 = 24 * 60 * 60;

/// The keys whose signatures count, and how many of them an update needs: /usr/share/corten/update-keys.json in the image, to which the
/// machine config may add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedKeys {
    /// Signatures of different keys that an update needs; at least 1.
    pub threshold: u32,
    /// In any order; a key that stands there twice counts once.
    pub keys: Vec<PublicKey>,
}

#[derive(Debug, thiserror::Error)]
pub enum BadTrustedKeys {
    #[error("reading the trusted keys: expected {{\"threshold\": 1, \"keys\": [\"<base64 of 32 bytes>\"]}}")]
    Parse(#[source] serde_json::Error),
    #[error("trusted keys: threshold: 0; expected at least 1")]
    Threshold,
}

/// Why a manifest is not to be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error(
        "the trusted keys ask for {threshold} signatures and are {keys}: no update can be accepted; add keys to machine.upgrade.trustedKeys"
    )]
    Threshold { threshold: u32, keys: usize },
    #[error(
        "signed by {valid} of {threshold} trusted keys that are needed ({}): sign it with a trusted key, or add the key to machine.upgrade.trustedKeys",
        list(.signatures)
    )]
    Signatures { valid: usize, threshold: u32, signatures: Vec<(KeyId, SignatureVerdict)> },
    #[error(
        "the update expired at {}, and the clock says {}: take a newer update, or set the clock if it is wrong",
        date(*.expires_at),
        date(*.now)
    )]
    Expired { expires_at: u64, now: u64 },
    #[error(
        "the update expires, and the clock says {}, before it was built at {}: the clock is wrong and cannot tell; set it and try again",
        date(*.now),
        date(*.built_at)
    )]
    ClockBehind { built_at: u64, now: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureVerdict {
    Valid,
    UnknownKey,
    /// By its name a trusted key made it, but it does not belong to this manifest.
    Wrong,
}

impl TrustedKeys {
    pub fn parse(json: &[u8]) -> Result<TrustedKeys, BadTrustedKeys> {
        let keys: TrustedKeys = serde_json::from_slice(json).map_err(BadTrustedKeys::Parse)?;
        if keys.threshold == 0 { Err(BadTrustedKeys::Threshold) } else { Ok(keys) }
    }

    /// The image's keys and those of the machine config. The threshold stays the image's.
    pub fn with(mut self, keys: impl IntoIterator<Item = PublicKey>) -> TrustedKeys {
        self.keys.extend(keys);
        self
    }
}

/// Whether enough different trusted keys signed. What unknown keys signed is ignored: that is how keys are exchanged.
pub(crate) fn signatures(trusted: &TrustedKeys, manifest_text: &str, signatures: &[SignatureOf]) -> Result<(), Untrusted> {
    let keys: BTreeSet<PublicKey> = trusted.keys.iter().copied().collect();
    let threshold = trusted.threshold;
    if threshold == 0 || threshold as usize > keys.len() {
        return Err(Untrusted::Threshold { threshold, keys: keys.len() });
    }
    let mut valid: BTreeSet<PublicKey> = BTreeSet::new();
    let mut verdicts = Vec::new();
    for SignatureOf { key: id, signature } in signatures {
        let named: Vec<&PublicKey> = keys.iter().filter(|key| key.id() == *id).collect();
        let signer = named.iter().find(|key| key.signed(manifest_text, signature));
        valid.extend(signer.copied().copied());
        let verdict = match signer {
            Some(_) => SignatureVerdict::Valid,
            None if named.is_empty() => SignatureVerdict::UnknownKey,
            None => SignatureVerdict::Wrong,
        };
        verdicts.push((*id, verdict));
    }
    match valid.len() {
        enough if enough >= threshold as usize => Ok(()),
        valid => Err(Untrusted::Signatures { valid, threshold, signatures: verdicts }),
    }
}

pub(crate) fn time(manifest: &Manifest, now: u64) -> Result<(), Untrusted> {
    let Some(expires_at) = manifest.expires_at else { return Ok(()) };
    if now >= expires_at {
        return Err(Untrusted::Expired { expires_at, now });
    }
    if now.saturating_add(CLOCK_TOLERANCE_SECONDS) < manifest.built_at {
        return Err(Untrusted::ClockBehind { built_at: manifest.built_at, now });
    }
    Ok(())
}

fn date(seconds: u64) -> String {
    let date = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| format!("second {seconds}"))
}

fn list(signatures: &[(KeyId, SignatureVerdict)]) -> String {
    let texts: Vec<String> = signatures.iter().map(|(key, verdict)| format!("{key}: {verdict}")).collect();
    if texts.is_empty() { "no signature at all".into() } else { texts.join(", ") }
}

impl fmt::Display for SignatureVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SignatureVerdict::Valid => "valid",
            SignatureVerdict::UnknownKey => "unknown key",
            SignatureVerdict::Wrong => "does not match the manifest",
        })
    }
}

#[cfg(test)]
mod tests;
