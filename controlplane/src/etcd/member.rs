//! A member of etcd's cluster, as any member tells of it.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// etcd's own name of a member; written in hexadecimal, as etcdctl does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    /// Empty until it has started for the first time.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// None until it has started for the first time.
    pub client_urls: Vec<String>,
    /// It gets the data but has no vote.
    pub learner: bool,
}

impl Member {
    pub fn has_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// Its name; the identity of one that never started.
    pub fn label(&self) -> String {
        if self.has_started() { self.name.clone() } else { self.id.to_string() }
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for MemberId {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<MemberId, ParseIntError> {
        u64::from_str_radix(text, 16).map(MemberId)
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MemberId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
