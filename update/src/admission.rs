//! Whether an update is for this machine.

use std::cmp::Ordering;

use semver::Version;

use crate::digest::Digest;
use crate::manifest::Manifest;

/// The image that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub version: Version,
    pub profile: String,
    /// As `uname -m` says it.
    pub architecture: String,
    /// dm-verity root hash; none on a machine that runs from memory.
    pub root_hash: Option<Digest>,
    /// Schema version of the machine config in force; none without one.
    pub config_version: Option<String>,
}

/// What the caller of the upgrade allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    pub allow_downgrade: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("architecture: the update is for {update}; this machine is {machine}")]
    Architecture { update: String, machine: String },
    #[error("profile: the update is for {update}; this machine runs {machine}: take the update file of that profile")]
    Profile { update: String, machine: String },
    #[error("version: {version} with this very root runs already")]
    SameImage { version: Version },
    #[error("minimumVersion: {update} is for machines at {minimum} or higher; this one runs {running}: upgrade it to {minimum} first")]
    MinimumVersion { update: Version, minimum: Version, running: Version },
    #[error(
        "configVersions: {update} reads machine configs of {}; this machine has one of {config}: apply it in a version that {update} reads first",
        reads.join(" and ")
    )]
    Config { update: Version, reads: Vec<String>, config: String },
    #[error("version: {update} is lower than {running}, which runs: allow the downgrade (--allow-downgrade) if it is meant")]
    Downgrade { update: Version, running: Version },
}

/// Versions are compared as Semantic Versioning 2.0.0 has it (section 11): a pre-release comes before its release, build metadata does not
/// count. An equal version with another root is a rebuild, and welcome. `minimumVersion` holds for downgrades as well.
pub fn admissible(manifest: &Manifest, running: &Running, policy: &Policy) -> Result<(), Refused> {
    if manifest.architecture != running.architecture {
        return Err(Refused::Architecture { update: manifest.architecture.clone(), machine: running.architecture.clone() });
    }
    if manifest.profile != running.profile {
        return Err(Refused::Profile { update: manifest.profile.clone(), machine: running.profile.clone() });
    }
    if running.root_hash == Some(manifest.root_hash) && manifest.version == running.version {
        return Err(Refused::SameImage { version: running.version.clone() });
    }
    if running.version.cmp_precedence(&manifest.minimum_version) == Ordering::Less {
        return Err(Refused::MinimumVersion {
            update: manifest.version.clone(),
            minimum: manifest.minimum_version.clone(),
            running: running.version.clone(),
        });
    }
    if manifest.version.cmp_precedence(&running.version) == Ordering::Less && !policy.allow_downgrade {
        return Err(Refused::Downgrade { update: manifest.version.clone(), running: running.version.clone() });
    }
    // An image that does not say comes from before there was a second version.
    let unread =
        running.config_version.as_ref().filter(|config| !manifest.config_versions.is_empty() && !manifest.config_versions.contains(config));
    if let Some(config) = unread {
        return Err(Refused::Config { update: manifest.version.clone(), reads: manifest.config_versions.clone(), config: config.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
