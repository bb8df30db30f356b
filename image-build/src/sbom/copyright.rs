//! The licence of a Debian package from its `copyright` file (Debian's machine-readable format 1.0, "DEP-5"):
//! the `License` of each `Files` paragraph, all of which apply, as one SPDX expression.
//! Debian's own short names that SPDX does not list become `LicenseRef-<package>-...`, with the text that the file gives.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::licence::Licence;

/// What a copyright file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Copyright {
    pub licence: Licence,
    /// Texts of the `LicenseRef-...` in the expression.
    #[serde(default)]
    pub texts: BTreeMap<String, String>,
}

impl Copyright {
    /// No expression, and why.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self { licence: Licence::Unknown(reason.into()), texts: BTreeMap::new() }
    }
}

/// Reads the text of a package's copyright file.
pub fn read(package: &str, text: &str) -> Copyright {
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.trim_start_matches('\n'));
    let head = paragraphs.next().unwrap_or_default();
    if !field(head, "Format").is_some_and(|format| format.contains("copyright-format/1.0") || format.contains("dep5")) {
        return Copyright::unknown("its copyright file is prose, not in the machine-readable format");
    }
    let paragraphs: Vec<&str> = paragraphs.collect();
    let mut reader = Reader { package, paragraphs: &paragraphs, texts: BTreeMap::new() };
    let mut terms = BTreeSet::new();
    for paragraph in paragraphs.iter().filter(|paragraph| field(paragraph, "Files").is_some()) {
        if let Some(name) = field(paragraph, "License").filter(|name| !name.is_empty()) {
            terms.insert(reader.expression(name));
        }
    }
    if terms.is_empty() {
        return Copyright::unknown("its copyright file names no licence for any file");
    }
    let alone = terms.len() == 1;
    let joined: Vec<String> =
        terms.into_iter().map(|term| if !alone && term.contains(" OR ") { format!("({term})") } else { term }).collect();
    Copyright { licence: Licence::Expression(joined.join(" AND ")), texts: reader.texts }
}

/// First line of a field of a paragraph.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The lines after the first of a paragraph's `License` field, as Debian indents them.
fn body(paragraph: &str) -> String {
    let lines = paragraph.lines().skip_while(|line| !line.to_ascii_lowercase().starts_with("license:")).skip(1);
    let lines = lines.take_while(|line| line.starts_with([' ', '\t'])).map(str::trim);
    lines.map(|line| if line == "." { "" } else { line }).collect::<Vec<_>>().join("\n")
}

struct Reader<'a> {
    package: &'a str,
    paragraphs: &'a [&'a str],
    texts: BTreeMap<String, String>,
}

impl Reader<'_> {
    /// `GPL-2+ or Expat` as SPDX writes it. What has commas or exceptions stays one name: Debian's grammar is looser than SPDX's.
    fn expression(&mut self, debian: &str) -> String {
        let debian = debian.split_whitespace().collect::<Vec<_>>().join(" ");
        if debian.contains(',') || debian.to_lowercase().contains(" with ") {
            return self.reference(&debian);
        }
        let alternatives: Vec<String> = debian
            .split(" or ")
            .map(|alternative| alternative.split(" and ").map(|name| self.identifier(name)).collect::<Vec<_>>().join(" AND "))
            .collect();
        alternatives.join(" OR ")
    }

    fn identifier(&mut self, name: &str) -> String {
        let guess = spdx_name(name);
        let listed = spdx::identifiers::LICENSES.iter().find(|licence| licence.name.eq_ignore_ascii_case(&guess));
        listed.map_or_else(|| self.reference(name), |licence| licence.name.to_owned())
    }

    /// An identifier of ours for a name that SPDX does not know.
    fn reference(&mut self, name: &str) -> String {
        let plain = |text: &str| text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect::<String>();
        let reference = format!("LicenseRef-{}-{}", plain(self.package), plain(name).trim_matches('-'));
        let text = self.paragraphs.iter().filter(|p| field(p, "License") == Some(name)).map(|p| body(p)).find(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| format!("{name}: as named in the copyright file of Debian package {}", self.package));
        self.texts.insert(reference.clone(), text);
        reference
    }
}

/// Debian's short name in the SPDX list's spelling, where the two differ.
fn spdx_name(name: &str) -> String {
    let (plain, later) = match name.strip_suffix('+') {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    for family in ["AGPL-", "GFDL-", "GPL-", "LGPL-"] {
        if let Some(version) = plain.strip_prefix(family).filter(|version| version.chars().all(|c| c.is_ascii_digit() || c == '.')) {
            let dot = if version.contains('.') { "" } else { ".0" };
            return format!("{family}{version}{dot}-{}", if later { "or-later" } else { "only" });
        }
    }
    match plain {
        "Expat" => "MIT".to_owned(),
        "CC0" => "CC0-1.0".to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(licences: &[&str]) -> Copyright {
        let mut text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n".to_owned();
        for licence in licences {
            text.push_str(&format!("\nFiles: *\nCopyright: 2020 Somebody\nLicense: {licence}\n"));
        }
        text.push_str("\nLicense: public-domain\n Do what\n .\n you want.\n\nLicense: only-a-text\n This paragraph belongs to no file.\n");
        read("x-utils", &text)
    }

    #[test]
    fn debian_names_become_spdx_identifiers() {
        let expect = |licences: &[&str], expression: &str| {
            assert_eq!(of(licences).licence, Licence::Expression(expression.into()));
            spdx::Expression::parse(expression).expect("an SPDX expression");
        };
        expect(&["GPL-2+"], "GPL-2.0-or-later");
        expect(&["LGPL-2.1"], "LGPL-2.1-only");
        expect(&["Expat"], "MIT");
        expect(&["bsd-3-clause", "GPL-2+ or Expat"], "BSD-3-Clause AND (GPL-2.0-or-later OR MIT)");
        expect(&["public-domain"], "LicenseRef-x-utils-public-domain");
        expect(&["GPL-2+ with OpenSSL exception"], "LicenseRef-x-utils-GPL-2--with-OpenSSL-exception");
    }

    #[test]
    fn names_that_spdx_does_not_list_come_with_their_text() {
        let texts = of(&["public-domain", "Expat"]).texts;
        assert_eq!(texts, BTreeMap::from([("LicenseRef-x-utils-public-domain".to_owned(), "Do what\n\nyou want.".to_owned())]));
        let missing = of(&["Nowhere"]).texts;
        assert!(missing["LicenseRef-x-utils-Nowhere"].contains("Debian package x-utils"));
    }

    #[test]
    fn prose_and_files_without_licence_are_unknown() {
        let reason = |copyright: Copyright| match copyright.licence {
            Licence::Unknown(reason) => reason,
            Licence::Expression(expression) => panic!("{expression}"),
        };
        assert!(reason(read("x", "This package was debianized by somebody.")).contains("prose"));
        assert!(reason(of(&[])).contains("no licence"));
    }
}
