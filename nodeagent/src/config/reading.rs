//! Documents as checked configs, and what differs between two of them.

use controlplane::pki::{self, AuthorityId};
use machine::config::{self, Config, Problem, Report};
use sha2::{Digest, Sha256};

use super::choice::Usable;
use crate::refusal::{Refusal, Violation};

/// A document that passed every check.
#[derive(Debug, Clone)]
pub struct Reading {
    pub text: String,
    pub config: Config,
}

/// What a user is shown of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Unified diff, secrets masked.
    pub diff: String,
    /// Fields whose change waits for the next boot.
    pub needs_reboot: Vec<String>,
}

/// What messages call the document.
const NAME: &str = "machine config";

pub fn read(text: &str) -> Result<Reading, Refusal> {
    let config = config::load(text, NAME).map_err(|report| invalid(&report))?;
    if let Some(id) = AuthorityId::ALL.into_iter().find(|id| pki::succeeds(id.of(&config.cluster.certificate_authorities))) {
        let expected = "not the key of the first certificate; expected that: the first certificate is the one that issues";
        return Err(Refusal::field(&format!("cluster.certificateAuthorities.{id}.key"), expected));
    }
    Ok(Reading { text: text.to_owned(), config })
}

/// Whether a kept document can be in force.
pub fn usable(text: &str) -> Usable {
    match config::load(text, NAME) {
        Ok(_) => Usable::Yes,
        Err(_) if config::is_newer(text) => Usable::Newer,
        Err(_) => Usable::No,
    }
}

/// Compares a wanted config with the one in force; refuses what cannot be changed in a machine's life.
pub fn compare(current: Option<&Reading>, wanted: &Reading) -> Result<Difference, Refusal> {
    if let Some(current) = current {
        config::refuse_change(&current.config, &wanted.config).map_err(|report| invalid(&report))?;
    }
    let from = current.map(|current| current.text.as_str()).unwrap_or_default();
    let diff = config::diff(from, &wanted.text);
    let needs_reboot = current.map(|current| config::needs_reboot(&current.config, &wanted.config)).unwrap_or_default();
    Ok(Difference { diff, needs_reboot })
}

/// The document with `***` for each secret.
pub fn masked(text: &str) -> Result<String, Refusal> {
    config::masked(text).map_err(|report| invalid(&report))
}

/// SHA-256, hex.
pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn invalid(report: &Report) -> Refusal {
    Refusal::Invalid(report.problems.iter().map(violation).collect())
}

fn violation(problem: &Problem) -> Violation {
    let field = if problem.path.is_empty() { "document".to_owned() } else { problem.path.clone() };
    let place = if problem.line > 0 { format!("line {}, column {}: ", problem.line, problem.column) } else { String::new() };
    Violation { field, description: place + &problem.message() }
}
