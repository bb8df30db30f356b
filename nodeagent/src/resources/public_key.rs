//! The public key of a WireGuard device.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A point of Curve25519, written in base64 as `wg` writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey(pub [u8; 32]);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no public key; expected 32 bytes in base64")]
pub struct BadPublicKey {
    text: String,
}

impl PublicKey {
    /// Whether it can be a device's. With the points of small order all secrets are zero, so the kernel takes none of them; the two here are
    /// those that one writes down without thinking.
    pub fn is_one_device(self) -> bool {
        let mut one = [0; 32];
        one[0] = 1;
        self.0 != [0; 32] && self.0 != one
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = BadPublicKey;

    fn from_str(text: &str) -> Result<PublicKey, BadPublicKey> {
        // What comes from strangers is not repeated at any length.
        let bad = || BadPublicKey { text: text.chars().take(48).collect() };
        let bytes = STANDARD.decode(text).map_err(|_| bad())?;
        bytes.try_into().map(PublicKey).map_err(|_| bad())
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = BadPublicKey;

    fn try_from(text: String) -> Result<PublicKey, BadPublicKey> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        for wrong in ["", "xTIB", "not base64 at all!", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8DgAAAA=", &"A".repeat(100_000)] {
            let said = wrong.parse::<PublicKey>().unwrap_err().to_string();
            assert!(said.ends_with("is no public key; expected 32 bytes in base64") && said.len() < 120, "{said}");
        }
    }
}
