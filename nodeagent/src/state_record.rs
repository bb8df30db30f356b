//! Records on STATE: JSON files that carry a version, since the image in the other slot reads them as well. One of a newer release is
//! recognised before anything else of it is read, told of, and left as it is.

mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, de::DeserializeOwned};

pub use table::publish;

/// A kind of record.
pub trait Versioned: DeserializeOwned {
    /// The version that this release writes; it reads that one and all before it.
    const VERSION: u32;
}

#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("reading {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("reading {}", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{}: version {found} was written by a newer release; this one reads version {known}, and leaves it as it is", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
}

impl Unreadable {
    /// Whether that is why this error came about.
    pub fn is_newer(error: &anyhow::Error) -> bool {
        matches!(error.downcast_ref(), Some(Unreadable::Newer { .. }))
    }
}

/// `None` for a file that is not there.
pub fn read<T: Versioned>(path: &Path) -> Result<Option<T>, Unreadable> {
    let Some(text) = text(path)? else { return Ok(None) };
    check(path, &text, T::VERSION)?;
    serde_json::from_slice(&text).map(Some).map_err(|source| Unreadable::Damaged { path: path.to_owned(), source })
}

/// The same for a file that must be there.
pub fn require<T: Versioned>(path: &Path) -> Result<T, Unreadable> {
    let missing = || Unreadable::Read { path: path.to_owned(), source: io::ErrorKind::NotFound.into() };
    read(path)?.ok_or_else(missing)
}

fn text(path: &Path) -> Result<Option<Vec<u8>>, Unreadable> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Unreadable::Read { path: path.to_owned(), source }),
        Ok(text) => Ok(Some(text)),
    }
}

/// Refuses a newer version. Under one, every other message would mislead.
fn check(path: &Path, text: &[u8], known: u32) -> Result<(), Unreadable> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        version: u32,
    }
    let head: Head = serde_json::from_slice(text).map_err(|source| Unreadable::Damaged { path: path.to_owned(), source })?;
    if head.version > known {
        return Err(Unreadable::Newer { path: path.to_owned(), found: head.version, known });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Record {
        version: u32,
        name: String,
    }

    impl Versioned for Record {
        const VERSION: u32 = 2;
    }

    #[test]
    fn the_version_comes_before_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record.json");
        assert!(read::<Record>(&path).unwrap().is_none());
        assert!(matches!(require::<Record>(&path), Err(Unreadable::Read { .. })));
        let written = |text: &str| {
            fs::write(&path, text).unwrap();
            read::<Record>(&path).map_err(anyhow::Error::from)
        };
        let record = |version| Some(Record { version, name: "x".to_owned() });
        assert_eq!(written(r#"{ "version": 1, "name": "x", "later": 1 }"#).unwrap(), record(1));
        assert_eq!(written(r#"{ "version": 2, "name": "x" }"#).unwrap(), record(2));
        // What a later release made of the name is none of this one's business.
        let newer = written(r#"{ "version": 3, "name": { "first": "x" } }"#).unwrap_err();
        let expected =
            format!("{}: version 3 was written by a newer release; this one reads version 2, and leaves it as it is", path.display());
        assert!(Unreadable::is_newer(&newer) && newer.to_string() == expected, "{newer:#}");
        assert!(Unreadable::is_newer(&newer.context("reading STATE")));
        for damaged in ["{", r#"{ "version": "one" }"#, r#"{ "version": 1 }"#] {
            assert!(!Unreadable::is_newer(&written(damaged).unwrap_err()), "{damaged}");
        }
    }
}
