//! The parts of an image and how they hang together, as values. Gathering them is left to `gather.rs`, their SPDX form to `document.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::licence::Licence;

/// Everything that an SBOM says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Name of the image, such as `corten-controlplane-x86_64`.
    pub image: String,
    pub version: String,
    /// Root hash of dm-verity: names the content of the root.
    pub root_hash: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// Who made the list, such as `image-build-0.1.0`.
    pub tool: String,
    pub parts: BTreeSet<Part>,
    pub links: BTreeSet<Link>,
    /// Texts of `LicenseRef-...` identifiers.
    pub texts: BTreeMap<String, String>,
}

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An executable of ours or of a component, at a place in the image.
    Program,
    DebianPackage,
    GoModule,
    Crate,
}

impl Kind {
    /// One word, for identifiers and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::DebianPackage => "deb",
            Self::GoModule => "go",
            Self::Crate => "crate",
        }
    }
}

/// One part at one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub kind: Kind,
    pub name: String,
    pub version: String,
    pub licence: Licence,
    /// Of the program, or of the archive that the part was published as.
    pub sha256: Option<String>,
    /// A program's place in the image.
    pub place: Option<String>,
    /// Package URL, for everything that vulnerability scanners know.
    pub purl: Option<String>,
    /// Where it came from, in words.
    pub origin: Option<String>,
}

/// Kind, name and version tell parts apart; a program's place is its version's companion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub String);

impl Part {
    pub fn key(&self) -> Key {
        Key(format!("{}|{}|{}|{}", self.kind.word(), self.name, self.version, self.place.as_deref().unwrap_or_default()))
    }
}

/// What is in the image, and what is in what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// Files of the part are in the image.
    Contained(Key),
    /// The second is linked into the first.
    Linked(Key, Key),
}

impl Parts {
    /// Adds a part that is in the image itself.
    pub fn contain(&mut self, part: Part) -> Key {
        let key = part.key();
        self.links.insert(Link::Contained(key.clone()));
        self.parts.insert(part);
        key
    }

    /// Adds a part that is linked into `program`.
    pub fn link(&mut self, program: &Key, part: Part) {
        self.links.insert(Link::Linked(program.clone(), part.key()));
        self.parts.insert(part);
    }
}
