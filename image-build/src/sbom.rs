//! `image-build sbom`: the list of all parts of an image, with versions and licences.

pub mod copyright;
pub mod licence;
