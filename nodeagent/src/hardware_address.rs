//! The hardware address of a network device.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Six bytes, written `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HardwareAddress(pub [u8; 6]);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no hardware address; expected six bytes in hex with colons between them")]
pub struct BadHardwareAddress {
    text: String,
}

impl HardwareAddress {
    /// Whether it can be one device's own: neither a group's nor nobody's.
    pub fn is_one_device(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Debug for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for HardwareAddress {
    type Err = BadHardwareAddress;

    fn from_str(text: &str) -> Result<HardwareAddress, BadHardwareAddress> {
        // What comes from strangers is not repeated at any length.
        let bad = || BadHardwareAddress { text: text.chars().take(40).collect() };
        let byte = |part: &str| {
            (part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Vec<u8> = text.split(':').take(7).map(byte).collect::<Option<_>>().ok_or_else(bad)?;
        bytes.try_into().map(HardwareAddress).map_err(|_| bad())
    }
}

impl From<HardwareAddress> for String {
    fn from(address: HardwareAddress) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for HardwareAddress {
    type Error = BadHardwareAddress;

    fn try_from(text: String) -> Result<HardwareAddress, BadHardwareAddress> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_strictly() {
        let address: HardwareAddress = "02:00:5e:10:00:0A".parse().unwrap();
        assert_eq!(address.to_string(), "02:00:5e:10:00:0a");
        for bad in ["", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "2:0:5e:10:0:1", "02:00:5e:10:00:+1", "02005e100001", "é2:00:5e:10:00:01"]
        {
            assert!(bad.parse::<HardwareAddress>().is_err(), "{bad}");
        }
        let long = "x".repeat(1 << 20).parse::<HardwareAddress>().unwrap_err();
        assert!(long.to_string().len() < 200);
        assert!(address.is_one_device());
        assert!(!HardwareAddress([0; 6]).is_one_device() && !HardwareAddress([0x33, 0x33, 0, 0, 0, 1]).is_one_device());
    }
}
