//! The licence of a Debian package from its `copyright` file (Debian's machine-readable format 1.0, "DEP-5"):
//! the `License` of each `Files` paragraph, all of which apply, as one SPDX expression.
//! Debian's own short names that SPDX does not list become `LicenseRef-Debian-...`.

use std::collections::BTreeSet;

use super::licence::Licence;

/// Prefix of identifiers that only Debian's copyright files define.
pub const REFERENCE: &str = "LicenseRef-Debian-";

/// Reads the text of a copyright file.
pub fn licence(text: &str) -> Licence {
    let mut paragraphs = text.split("\n\n").map(str::trim_start);
    let head = paragraphs.next().unwrap_or_default();
    if !field(head, "Format").is_some_and(|format| format.contains("copyright-format/1.0") || format.contains("dep5")) {
        return Licence::Unknown("its copyright file is prose, not in the machine-readable format".to_owned());
    }
    let mut terms = BTreeSet::new();
    for paragraph in paragraphs.filter(|paragraph| field(paragraph, "Files").is_some()) {
        let Some(name) = field(paragraph, "License").filter(|name| !name.is_empty()) else { continue };
        terms.insert(expression(name));
    }
    if terms.is_empty() {
        return Licence::Unknown("its copyright file names no licence for any file".to_owned());
    }
    let alone = terms.len() == 1;
    let joined: Vec<String> =
        terms.into_iter().map(|term| if !alone && term.contains(" OR ") { format!("({term})") } else { term }).collect();
    Licence::Expression(joined.join(" AND "))
}

/// First line of a field of a paragraph.
fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    paragraph.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// `GPL-2+ or Expat` as SPDX writes it. What has commas or exceptions stays one name: Debian's grammar is looser than SPDX's.
fn expression(debian: &str) -> String {
    let debian = debian.split_whitespace().collect::<Vec<_>>().join(" ");
    if debian.contains(',') || debian.to_lowercase().contains(" with ") {
        return reference(&debian);
    }
    let alternatives: Vec<String> = debian
        .split(" or ")
        .map(|alternative| alternative.split(" and ").map(identifier).collect::<Vec<_>>().join(" AND "))
        .collect();
    alternatives.join(" OR ")
}

/// The SPDX identifier of one of Debian's short names.
fn identifier(name: &str) -> String {
    let name = name.trim();
    let (plain, later) = match name.strip_suffix('+') {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    let gnu = ["GPL-", "LGPL-", "AGPL-", "GFDL-"].iter().find_map(|family| Some((family, plain.strip_prefix(family)?)));
    let guess = match (gnu, plain) {
        (Some((family, version)), _) if version.chars().all(|c| c.is_ascii_digit() || c == '.') => {
            let dot = if version.contains('.') { "" } else { ".0" };
            format!("{family}{version}{dot}-{}", if later { "or-later" } else { "only" })
        }
        (_, "Expat") => "MIT".to_owned(),
        (_, "CC0") => "CC0-1.0".to_owned(),
        _ => name.to_owned(),
    };
    let listed = spdx::identifiers::LICENSES.iter().find(|licence| licence.name.eq_ignore_ascii_case(&guess));
    listed.map_or_else(|| reference(name), |licence| licence.name.to_owned())
}

fn reference(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("{REFERENCE}{}", plain.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(licences: &[&str]) -> Licence {
        let mut text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: x\n".to_owned();
        for licence in licences {
            text.push_str(&format!("\nFiles: *\nCopyright: 2020 Somebody\nLicense: {licence}\n Text of it.\n"));
        }
        text.push_str("\nLicense: only-a-text\n This paragraph belongs to no file.\n");
        licence(&text)
    }

    #[test]
    fn debian_names_become_spdx_identifiers() {
        let expect = |licences: &[&str], expression: &str| {
            assert_eq!(of(licences), Licence::Expression(expression.into()));
            spdx::Expression::parse(expression).expect("an SPDX expression");
        };
        expect(&["GPL-2+"], "GPL-2.0-or-later");
        expect(&["LGPL-2.1"], "LGPL-2.1-only");
        expect(&["Expat"], "MIT");
        expect(&["bsd-3-clause", "GPL-2+ or Expat"], "BSD-3-Clause AND (GPL-2.0-or-later OR MIT)");
        expect(&["public-domain"], "LicenseRef-Debian-public-domain");
        expect(&["GPL-2+ with OpenSSL exception"], "LicenseRef-Debian-GPL-2--with-OpenSSL-exception");
    }

    #[test]
    fn prose_and_files_without_licence_are_unknown() {
        assert!(matches!(licence("This package was debianized by somebody."), Licence::Unknown(reason) if reason.contains("prose")));
        assert!(matches!(of(&[]), Licence::Unknown(reason) if reason.contains("no licence")));
    }
}
