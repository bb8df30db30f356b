//! Versions of the upstream parts, as far as rules speak of them.

use std::fmt;
use std::str::FromStr;

/// A minor version of Kubernetes or etcd: what rules of skew, emulation and storage count in. Text: `1.37`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor {
    pub major: u64,
    pub minor: u64,
}

/// A text that does not begin with two numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("version {0:?}; expected one such as v1.37.1")]
pub struct BadVersion(String);

impl Minor {
    /// The one before it; none before the first of its major version.
    pub fn previous(self) -> Option<Minor> {
        Some(Minor { minor: self.minor.checked_sub(1)?, ..self })
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Minor {
    type Err = BadVersion;

    /// Of `v1.37.1`, `3.7.3` or `3.6`.
    fn from_str(text: &str) -> Result<Minor, BadVersion> {
        let mut numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(|number| number.parse().ok());
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(major), Some(minor)) => Ok(Minor { major, minor }),
            _ => Err(BadVersion(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_tell_them() {
        let minor = |major, minor| Ok(Minor { major, minor });
        for (text, expected) in [("v1.37.1", minor(1, 37)), ("1.37.0-rc.1", minor(1, 37)), ("3.6", minor(3, 6)), ("v3.7.3", minor(3, 7))] {
            assert_eq!(text.parse(), expected);
        }
        for wrong in ["", "v1", "v1.x", "one.two"] {
            assert_eq!(wrong.parse::<Minor>(), Err(BadVersion(wrong.to_owned())));
        }
        assert_eq!(Minor { major: 3, minor: 7 }.previous(), Some(Minor { major: 3, minor: 6 }));
        assert_eq!(Minor { major: 4, minor: 0 }.previous(), None);
    }
}
