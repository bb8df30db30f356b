//! How the machine's clock stands to the world's.

use serde::{Deserialize, Serialize};

use crate::store::Resource;

/// The clock; one object, `clock`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeStatus {
    /// Whether a time server confirmed the clock in this boot.
    pub synchronized: bool,
    /// Whether all servers were asked once, or there are none to ask: nothing better is to be expected soon.
    pub settled: bool,
    /// Servers by name or address, as the config or DHCP gives them.
    pub servers: Vec<String>,
    /// The server that answered last.
    pub server: String,
    /// How far the clock was behind (positive) or ahead of it, in milliseconds.
    pub offset_milliseconds: i64,
    /// Why no server could be asked; empty when one answered.
    pub error: String,
}

impl Resource for TimeStatus {
    const KIND: &'static str = "timestatus";
}

impl TimeStatus {
    pub const NAME: &'static str = "clock";
}
