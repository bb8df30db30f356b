//! An SBOM as a table for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::document::{Document, IMAGE, NO_ASSERTION, Package};

/// One line per part: name, version and licence, or why it is not known.
pub fn table(document: &Document) -> String {
    let parts = document.packages.iter().filter(|package| package.id != IMAGE);
    let rows: BTreeSet<(&str, &str, String)> =
        parts.map(|package| (package.name.as_str(), package.version_info.as_str(), licence(package))).collect();
    let width = |text: fn(&(&str, &str, String)) -> usize, least: usize| rows.iter().map(text).max().unwrap_or(0).max(least);
    let (names, versions) = (width(|row| row.0.len(), 4), width(|row| row.1.len(), 7));
    let mut out = String::new();
    for (name, version, licence) in std::iter::once(("NAME", "VERSION", "LICENCE".to_owned())).chain(rows) {
        let _ = writeln!(out, "{name:names$}  {version:versions$}  {licence}");
    }
    out
}

fn licence(package: &Package) -> String {
    match (&package.license_declared, &package.license_comments) {
        (declared, Some(reason)) if declared == NO_ASSERTION => format!("unknown: {reason}"),
        (declared, _) => declared.clone(),
    }
}
