//! Which licence a part is under, as an SPDX expression, found by comparing its licence files with the SPDX list's texts.
//! A detector reads words, not intentions: what it is not sure of is "unknown" with the reason, never a guess.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use spdx::detection::{
    Store, TextData,
    scan::{ScanMode, Scanner},
};

/// What is known about a part's licence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Licence {
    /// An SPDX expression.
    Expression(String),
    /// No expression, and why.
    Unknown(String),
}

/// The SPDX list's texts, loaded once.
pub struct Detector {
    store: Store,
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detector").finish_non_exhaustive()
    }
}

/// How alike a text must be, of 1.0. Copyright lines and line breaks are left out of the comparison.
const CONFIDENCE: f32 = 0.9;

impl Detector {
    /// Loads the texts that come with the detector's crate.
    pub fn load() -> Result<Self> {
        let store = Store::load_inline().context("loading the licence texts")?;
        Ok(Self { store })
    }

    /// The licence of the sources in `folder`, from the licence files at its top: all of them apply.
    pub fn folder(&self, folder: &Path) -> Result<Licence> {
        let mut expressions = Vec::new();
        let mut unclear = Vec::new();
        for name in licence_files(folder)? {
            let path = folder.join(&name);
            let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            let found = self.text(&String::from_utf8_lossy(&text));
            if found.is_empty() {
                unclear.push(name);
            }
            expressions.extend(found);
        }
        expressions.sort();
        expressions.dedup();
        Ok(match (expressions.is_empty(), unclear.is_empty()) {
            (false, true) => Licence::Expression(expressions.join(" AND ")),
            (true, true) => Licence::Unknown("no licence file".to_owned()),
            (_, false) => Licence::Unknown(format!("{} is not like any text of the SPDX list", unclear.join(", "))),
        })
    }

    /// The identifiers of the licences whose texts the text is or contains, sorted.
    fn text(&self, text: &str) -> Vec<String> {
        let found = self.scan(text, ScanMode::Elimination);
        // Several texts of about the same length hide each other from the quick way.
        if found.is_empty() { self.scan(text, ScanMode::top_down()) } else { found }
    }

    fn scan(&self, text: &str, mode: ScanMode) -> Vec<String> {
        let scanner = Scanner::with_scan_mode(&self.store, mode).confidence_threshold(CONFIDENCE).optimize(true);
        let result = scanner.scan(&TextData::from(text));
        let contained = result.containing.iter().map(|part| part.license.name);
        let names = result.license.iter().map(|whole| whole.name).chain(contained);
        let names: BTreeSet<&str> = names.map(|name| unmistaken(name, text)).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// Pixar's licence is Apache 2.0 with one section changed and without the appendix, so it wins where only the appendix is missing.
fn unmistaken<'a>(name: &'a str, text: &str) -> &'a str {
    if name == "Pixar" && !text.contains("Modified Apache") { "Apache-2.0" } else { name }
}

/// Names of the licence files at the top of a folder, sorted.
fn licence_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let upper = name.to_uppercase();
        let licence = ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"].iter().any(|prefix| upper.starts_with(prefix));
        let source = upper.ends_with(".GO") || upper.ends_with(".DOCS");
        if licence && !source && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn licence_of(files: &[(&str, &str)]) -> Licence {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("file");
        }
        Detector::load().expect("texts").folder(folder.path()).expect("answer")
    }

    const MIT: &str = r#"The MIT License (MIT)

Copyright (c) 2014 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"#;

    #[test]
    fn licence_files_are_recognised_and_joined() {
        assert_eq!(licence_of(&[("LICENSE", MIT)]), Licence::Expression("MIT".into()));
        let apache = include_str!("../../../LICENSE");
        assert_eq!(licence_of(&[("LICENSE", &format!("{MIT}\n========\n\n{MIT}"))]), Licence::Expression("MIT".into()));
        assert_eq!(licence_of(&[("LICENSE-MIT", MIT), ("LICENSE", apache)]), Licence::Expression("Apache-2.0 AND MIT".into()));
    }

    #[test]
    fn apache_without_its_appendix_is_still_apache() {
        let (terms, _) = include_str!("../../../LICENSE").split_once("APPENDIX:").expect("an appendix");
        assert_eq!(licence_of(&[("LICENSE.txt", terms)]), Licence::Expression("Apache-2.0".into()));
    }

    #[test]
    fn no_file_or_a_strange_one_is_unknown_with_the_reason() {
        assert_eq!(licence_of(&[("README", MIT), ("license.go", MIT)]), Licence::Unknown("no licence file".into()));
        let Licence::Unknown(reason) = licence_of(&[("COPYING", "Ask me first.")]) else { panic!("a licence was found in a sentence") };
        assert!(reason.contains("COPYING"), "{reason}");
    }
}
