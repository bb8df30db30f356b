//! Who may call what: read from the protos at build time (build/access.rs), so that no second list can disagree.

use crate::v1::{Machines, Role};

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Least of the people's roles that may call it; `Unspecified`: none of them.
    pub role: Role,
    /// Which machines may call it.
    pub machines: Machines,
    /// Whether it answers in maintenance, and in recovery as well.
    pub maintenance: bool,
    /// Whether it answers in recovery.
    pub recovery: bool,
}

/// Each method by its path (`/corten.machine.v1.Machine/GetVersion`), sorted by path.
pub const ACCESS: &[(&str, Access)] = include!(concat!(env!("OUT_DIR"), "/access.rs"));

/// What the method asks; `None` for a method that this API does not have, which nobody may call.
pub fn access(path: &str) -> Option<Access> {
    ACCESS.binary_search_by_key(&path, |(known, _)| known).ok().map(|index| ACCESS[index].1)
}
