//! Debian's control files (deb822): stanzas of `Field: value`, continued by indented lines.

/// One stanza. Field names are compared without regard to case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stanza(Vec<(String, String)>);

impl Stanza {
    /// The value; lines of a continued one are parted by newlines.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| value.as_str())
    }
}

pub fn parse(text: &str) -> Vec<Stanza> {
    let mut stanzas = vec![Stanza::default()];
    for line in text.lines() {
        if line.trim().is_empty() {
            stanzas.push(Stanza::default());
        } else if line.starts_with('#') {
            continue;
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanzas.last_mut().and_then(|stanza| stanza.0.last_mut()) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':')
            && let Some(stanza) = stanzas.last_mut()
        {
            stanza.0.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    stanzas.retain(|stanza| !stanza.0.is_empty());
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_stanzas_with_continuations_and_remarks() {
        let stanzas = parse("Package: a\nDepends: b (>= 1),\n c\n# remark\nVersion: 1:2\n\n\npackage: d\n");
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[0].get("depends"), Some("b (>= 1),\nc"));
        assert_eq!(stanzas[0].get("Version"), Some("1:2"));
        assert_eq!(stanzas[1].get("Package"), Some("d"));
    }
}
