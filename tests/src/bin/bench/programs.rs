//! Our programs as the release profile links them, statically: what is measured, and what images must hold to be measured.

use std::fs;
use std::path::{Path, PathBuf};

use ::tests::place;
use anyhow::{Context, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub const INIT: &str = "init";
pub const AGENT: &str = "nodeagent";

pub fn released(name: &str) -> PathBuf {
    place::repository().join("target/x86_64-unknown-linux-gnu/release").join(name)
}

/// An image with them, apart from the images of tests.
pub fn image(profile: &str) -> PathBuf {
    place::repository().join("build/bench/images").join(profile)
}

/// What to do about a file that is not there.
pub fn remedy(missing: &Path) -> String {
    format!("{}: make bench builds it", missing.display())
}

/// Whether the image holds the programs of the release profile: a figure of others would be about something that is not shipped.
pub fn check(image: &Path) -> anyhow::Result<()> {
    let path = image.join("manifest.json");
    let text = fs::read(&path).with_context(|| remedy(&path))?;
    let manifest: Value = serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    for name in [INIT, AGENT] {
        let program = released(name);
        let bytes = fs::read(&program).with_context(|| remedy(&program))?;
        let digest = hex::encode(Sha256::digest(bytes));
        let held = manifest["programs"].as_array().into_iter().flatten().any(|held| held["sha256"] == digest.as_str());
        ensure!(held, "{} holds another {name} than {}: make bench builds both", image.display(), program.display());
    }
    Ok(())
}
