//! The fingerprint that a machine in maintenance shows on its console.

use crate::tls::Fingerprint;

/// The last one shown: each start of the agent makes a new certificate.
pub fn shown(console: &str) -> Option<Fingerprint> {
    let lines = console.lines().rev().filter(|line| line.to_lowercase().contains("fingerprint"));
    lines.flat_map(str::split_whitespace).find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_counts() {
        let (old, new) = ("aa".repeat(32), "bb".repeat(32));
        let console = format!(
            "[ 1.0] boot\ncorten: maintenance: fingerprint sha256:{old}\nx\ncorten: maintenance: fingerprint sha256:{new}\nfingerprint: none\n"
        );
        assert_eq!(shown(&console).map(|f| f.to_string()), Some(format!("sha256:{new}")));
        assert_eq!(shown("Fingerprint follows"), None);
    }
}
