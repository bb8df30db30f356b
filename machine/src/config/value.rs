//! Values that the machine config is made of, each parsed once, when the document is read.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A span of time: `500ms`, `10s`, `15m`, `6h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(pub std::time::Duration);

/// A number of bytes: `512`, `64MiB`, `20GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

/// Text that is never logged, and masked for readers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 5] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("", 1)];

impl FromStr for Duration {
    type Err = String;
    fn from_str(text: &str) -> Result<Duration, String> {
        let wrong = || format!("{text:?} is no duration; expected a whole number and a unit, such as 500ms, 10s, 15m, 6h or 7d");
        let milliseconds = scaled(text, &DURATION_UNITS).ok_or_else(wrong)?;
        Ok(Duration(std::time::Duration::from_millis(milliseconds)))
    }
}

impl FromStr for ByteSize {
    type Err = String;
    fn from_str(text: &str) -> Result<ByteSize, String> {
        let wrong = || format!("{text:?} is no size; expected a whole number of bytes, or one with KiB, MiB, GiB or TiB, such as 20GiB");
        scaled(text, &SIZE_UNITS).map(ByteSize).ok_or_else(wrong)
    }
}

/// `<digits><unit>` in the smallest unit; `None` for anything else or an overflow.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The largest unit that gives a whole number.
fn shortest(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount.is_multiple_of(*factor) && amount >= *factor;
    let (unit, factor) = units.iter().filter(fits).max_by_key(|(_, factor)| *factor).unwrap_or(&units[0]);
    format!("{}{unit}", amount / factor)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortest(self.0.as_millis() as u64, &DURATION_UNITS))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            bytes => f.write_str(&shortest(bytes, &SIZE_UNITS)),
        }
    }
}

macro_rules! as_text {
    ($type:ident, $format:literal, $pattern:literal, $description:literal) => {
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<$type, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": $format, "pattern": $pattern, "description": $description })
            }
        }
    };
}

pub(super) use as_text;

as_text!(Duration, "timespan", "^[0-9]+(ms|s|m|h|d)$", "A span of time: a whole number and a unit, such as 500ms, 10s, 15m, 6h, 7d.");
as_text!(ByteSize, "bytesize", "^[0-9]+(KiB|MiB|GiB|TiB)?$", "A number of bytes, such as 512, 64MiB, 20GiB.");

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself. Every caller is a place to look at: nothing of it may reach a log or a reader.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "writeOnly": true })
    }
}

/// Stands in the schema for the addresses of the standard library and of ipnet.
macro_rules! schema_only {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "format": $format })
            }
        }
    };
}

schema_only!(
    /// A network or an address with its prefix length.
    Cidr,
    "cidr"
);
schema_only!(
    /// An IPv4 or IPv6 address.
    Address,
    "ip"
);
