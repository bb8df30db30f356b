//! What a machine wrote to its serial console: a file that QEMU appends to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;

/// Lines that an error shows.
const TAIL_LINES: usize = 25;

#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
}

impl Console {
    pub fn new(path: impl Into<PathBuf>) -> Console {
        Console { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it so far, without terminal control sequences. A console that nothing was written to yet is empty.
    pub fn text(&self) -> Result<String, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(plain(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(Error::file("read", &self.path)(error)),
        }
    }

    /// The first line that holds `part`.
    pub fn line_with(&self, part: &str) -> Result<Option<String>, Error> {
        let text = self.text()?;
        Ok(text.lines().find(|line| line.contains(part)).map(str::to_owned))
    }

    /// All lines that hold `part`, in their order: what is said once a boot tells one boot from the next.
    pub fn lines_with(&self, part: &str) -> Result<Vec<String>, Error> {
        let text = self.text()?;
        Ok(text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect())
    }

    /// Its last lines, for an error.
    pub fn tail(&self) -> String {
        let text = self.text().unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            return "  (nothing)".to_owned();
        }
        lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

/// Drops escape sequences (ECMA-48 `ESC [ ... letter`, and two-byte ones), carriage returns and other control characters.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
            '\u{1b}' => drop(characters.next()),
            '\n' | '\t' => out.push(character),
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_left_out() {
        assert_eq!(plain("\u{1b}[2J\u{1b}[01;01Hone\r\n\u{1b}=two\u{7}"), "one\ntwo");
    }

    #[test]
    fn a_line_is_found_and_the_tail_is_bounded() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let text: String = (0..100).map(|n| format!("line {n}\r\n")).collect();
        std::fs::write(file.path(), text).expect("write");
        let console = Console::new(file.path());
        assert_eq!(console.line_with("ne 42").expect("read"), Some("line 42".to_owned()));
        assert_eq!(console.line_with("nothing").expect("read"), None);
        assert_eq!(console.lines_with("line 4").expect("read").len(), 11);
        assert_eq!(console.tail().lines().count(), TAIL_LINES);
        assert_eq!(Console::new("/nonexistent/console.log").text().expect("empty"), "");
    }
}
