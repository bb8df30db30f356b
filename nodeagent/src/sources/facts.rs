//! What decides which sources are asked: the platform, the kernel command line, and whether the firmware checked what it booted.

use std::fs;

use machine::Root;

pub use crate::resources::security::SecureBoot;
use crate::security;

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// As the image says it: `metal`, `aws`, ...; empty where it says nothing.
    pub platform: String,
    /// Value of the kernel parameter `corten.config`.
    pub url: Option<String>,
    pub secure_boot: SecureBoot,
}

/// Looks.
pub fn read(root: &Root, platform: String) -> Facts {
    let command_line = fs::read_to_string(root.path("/proc/cmdline")).unwrap_or_default();
    Facts { platform, url: parameter(&command_line, "corten.config"), secure_boot: security::secure_boot(root) }
}

/// The last one counts, as with the kernel's own parameters; its value may stand in quotes.
fn parameter(command_line: &str, name: &str) -> Option<String> {
    let mut values = command_line.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values.next_back().map(|value| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parameter_counts() {
        let line = "quiet corten.config=http://192.0.2.1/a corten.configs=x corten.config=\"http://192.0.2.1/b\"\n";
        assert_eq!(parameter(line, "corten.config").as_deref(), Some("http://192.0.2.1/b"));
        assert_eq!(parameter("quiet xcorten.config=http://192.0.2.1/a", "corten.config"), None);
    }
}
