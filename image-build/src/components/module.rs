//! What go.mod says: the Go release it asks for and the version of the module that a component is named after.

use anyhow::{Context, Result};

/// The two facts that a build needs from go.mod.
#[derive(Debug, PartialEq, Eq)]
pub struct GoMod {
    /// Oldest Go release that builds it, such as `1.26.0`.
    pub go: String,
    /// Version of the component's module, such as `v1.37.1`.
    pub version: String,
}

/// Reads the text of a go.mod. Go itself checks the rest of its syntax.
pub fn parse(text: &str, module: &str) -> Result<GoMod> {
    let mut go = None;
    let mut version = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.strip_prefix(&["require"]).unwrap_or(&words) {
            ["go", release] => go = Some(release.to_owned()),
            [path, found] if path == module && found.starts_with('v') => version = Some(found.to_owned()),
            _ => {}
        }
    }
    Ok(GoMod {
        go: go.context("no `go` line; expected one such as `go 1.26.0`")?,
        version: version.with_context(|| format!("no version of module {module}; expected a line `require {module} vX.Y.Z`"))?,
    })
}

/// Whether Go release `have` (`go1.26.8`) is at least `want` (`1.26.0`). Pre-releases count as their release.
pub fn at_least(have: &str, want: &str) -> bool {
    let numbers = |release: &str| -> Vec<u32> {
        let release = release.trim_start_matches("go");
        let plain = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        plain.split('.').map(|part| part.parse().unwrap_or(0)).chain([0, 0, 0]).take(3).collect()
    };
    numbers(have) >= numbers(want)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_go_release_are_found_in_blocks_and_single_lines() {
        let block = "module x\n\ngo 1.26.0\n\nrequire (\n\ta/b v1.0.0\n\tk8s.io/kubernetes v1.37.1 // indirect\n)\n\nreplace k8s.io/kubernetes => ./up\n";
        let expected = GoMod { go: "1.26.0".into(), version: "v1.37.1".into() };
        assert_eq!(parse(block, "k8s.io/kubernetes").expect("found"), expected);
        let single = "module x\ngo 1.26.0\nrequire k8s.io/kubernetes v1.37.1\n";
        assert_eq!(parse(single, "k8s.io/kubernetes").expect("found"), expected);
    }

    #[test]
    fn a_module_that_is_not_required_is_named() {
        let error = parse("module x\ngo 1.26.0\n", "a/b").expect_err("missing");
        assert!(error.to_string().contains("require a/b vX.Y.Z"), "{error}");
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(at_least("go1.26.8", "1.26.0"));
        assert!(at_least("go1.100", "1.26.6"));
        assert!(at_least("go1.27rc1", "1.26.6"));
        assert!(!at_least("go1.26.5", "1.26.6"));
        assert!(!at_least("go1.19.8", "1.26.0"));
    }
}
