//! Records on STATE that init writes and the agent reads, perhaps that of another image. Each carries a version; a program reads its own
//! version and the one before.

use serde::{Deserialize, Serialize};

use crate::protocol::PowerAction;

/// What init says on the console, and so in the kernel's log, in front of the reason for which a machine cannot go on. The agent finds it in
/// what the kernel kept of that boot.
pub const CANNOT_BOOT: &str = "CANNOT BOOT: ";

/// Why a boot was ended in order, written to [`crate::Root::last_shutdown`] before STATE is unmounted. A boot that is not the one it names
/// ended in a crash, a reset or a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastShutdown {
    pub version: u32,
    /// Of the boot that ended: the kernel's `boot_id`.
    pub boot_id: String,
    pub action: PowerAction,
    /// In the words of whoever asked for it.
    pub reason: String,
    /// Seconds since the epoch.
    pub at: u64,
}

impl LastShutdown {
    pub const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one release wrote, the next one reads: this text stays as it is.
    #[test]
    fn version_1_is_read() {
        let text = r#"{"version":1,"bootId":"b","action":"reboot","reason":"upgrade","at":1795000000}"#;
        let record = LastShutdown {
            version: LastShutdown::VERSION,
            boot_id: "b".into(),
            action: PowerAction::Reboot,
            reason: "upgrade".into(),
            at: 1_795_000_000,
        };
        assert_eq!(serde_json::from_str::<LastShutdown>(text).expect("reads"), record);
        assert_eq!(serde_json::to_string(&record).expect("writes"), text);
    }
}
