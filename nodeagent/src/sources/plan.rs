//! Which sources a machine asks for its first config, in their order: one that somebody named on the kernel command line, then volumes, which
//! somebody attached, then the metadata service of the cloud that the image was made for.

use super::facts::{Facts, SecureBoot};
use super::url::Url;

/// A place outside the machine that may hold its first config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `corten.config=` on the kernel command line.
    Url(Url),
    NoCloud,
    ConfigDrive,
    Aws,
    Gcp,
    Azure,
    OpenStack,
}

/// What a machine asks, and what it does not although somebody could expect it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub sources: Vec<Source>,
    /// Name of the source, and why.
    pub passed_over: Vec<(&'static str, String)>,
}

/// Name of the source on the kernel command line.
pub const URL: &str = "url";

impl Source {
    pub fn name(&self) -> &'static str {
        match self {
            Source::Url(_) => URL,
            Source::NoCloud => "nocloud",
            Source::ConfigDrive => "config-drive",
            Source::Aws => "aws",
            Source::Gcp => "gcp",
            Source::Azure => "azure",
            Source::OpenStack => "openstack",
        }
    }
}

/// Decides. Each metadata service is asked on its own platform only: elsewhere its address may belong to anybody.
pub fn plan(facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    if let Some(text) = &facts.url {
        match url(text, facts.secure_boot) {
            Ok(url) => plan.sources.push(Source::Url(url)),
            Err(reason) => plan.passed_over.push((URL, reason)),
        }
    }
    plan.sources.extend(match facts.platform.as_str() {
        "" | "metal" | "nocloud" | "qemu" => vec![Source::NoCloud, Source::ConfigDrive],
        "openstack" => vec![Source::ConfigDrive, Source::OpenStack],
        "aws" => vec![Source::Aws],
        "gcp" => vec![Source::Gcp],
        "azure" => vec![Source::Azure],
        _ => Vec::new(),
    });
    plan
}

/// Under Secure Boot the command line is part of what was signed. A URL on it then came from who signed the image, or around the signature;
/// the second cannot be told from the first.
fn url(text: &str, secure_boot: SecureBoot) -> Result<Url, String> {
    let reason = match secure_boot {
        SecureBoot::Off => return text.parse().map_err(|error| format!("kernel parameter corten.config: {error}")),
        SecureBoot::On => "the machine was booted by Secure Boot",
        SecureBoot::Unknown => "whether the machine was booted by Secure Boot cannot be read",
    };
    Err(format!("kernel parameter corten.config is not followed: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn table() {
        let mut table = String::new();
        for platform in ["", "metal", "qemu", "nocloud", "aws", "gcp", "azure", "openstack", "elsewhere"] {
            let plan = plan(&Facts { platform: platform.to_owned(), url: None, secure_boot: SecureBoot::On });
            assert_eq!(plan.passed_over, []);
            let names: Vec<&str> = plan.sources.iter().map(Source::name).collect();
            let platform = if platform.is_empty() { "(none)" } else { platform };
            writeln!(table, "{}", format!("{platform:<11} {}", names.join(", ")).trim_end()).unwrap();
        }
        crate::golden::check("src/sources/golden/platforms.txt", &table);
    }

    fn with_url(text: &str, secure_boot: SecureBoot) -> Plan {
        plan(&Facts { platform: "metal".to_owned(), url: Some(text.to_owned()), secure_boot })
    }

    #[test]
    fn a_url_comes_first_and_only_without_secure_boot() {
        let first = with_url("http://192.0.2.1/cp.yaml", SecureBoot::Off).sources.remove(0);
        assert_eq!(first, Source::Url("http://192.0.2.1/cp.yaml".parse().unwrap()));
        for secure_boot in [SecureBoot::On, SecureBoot::Unknown] {
            let plan = with_url("http://192.0.2.1/cp.yaml", secure_boot);
            assert_eq!(plan.sources, [Source::NoCloud, Source::ConfigDrive]);
            assert!(plan.passed_over[0].1.contains("Secure Boot"), "{plan:?}");
        }
    }

    #[test]
    fn a_bad_url_is_told_and_the_others_are_asked() {
        let plan = with_url("ftp://192.0.2.1/cp.yaml", SecureBoot::Off);
        assert_eq!(plan.sources, [Source::NoCloud, Source::ConfigDrive]);
        let [("url", reason)] = plan.passed_over.as_slice() else { panic!("{plan:?}") };
        assert!(reason.contains("ftp://192.0.2.1/cp.yaml") && reason.contains("expected"), "{reason}");
    }
}
