//! Golden files: compared as they are, rewritten when `CORTEN_GOLDEN` is set (`make golden`).

use std::path::{Path, PathBuf};
use std::{env, fs};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The golden's text; empty if there is none yet.
pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_default()
}

/// Fails with a diff unless the golden says `text`.
pub fn check(name: &str, text: &str) {
    if env::var_os("CORTEN_GOLDEN").is_some() {
        fs::write(path(name), text).unwrap_or_else(|error| panic!("write {name}: {error}"));
        return;
    }
    let golden = read(name);
    let diff = similar::TextDiff::from_lines(golden.as_str(), text);
    assert!(golden == text, "{name} differs; if that is meant, run `make golden`:\n{}", diff.unified_diff());
}
