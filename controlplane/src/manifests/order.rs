//! The order in which objects are applied, whatever order the config has them in: what others need comes first, and what could refuse others last.

use super::Manifest;

/// Objects by their rank, each rank in the order given. Of two that name the same object the later one stays: so a user's manifest takes the
/// place of one of Corten's.
pub(super) fn in_order(all: Vec<Manifest>) -> Vec<Manifest> {
    let mut kept: Vec<Manifest> = Vec::new();
    for manifest in all {
        kept.retain(|other| other.reference != manifest.reference);
        kept.push(manifest);
    }
    kept.sort_by_key(rank);
    kept
}

fn rank(manifest: &Manifest) -> u8 {
    match (manifest.reference.group(), manifest.reference.kind.as_str()) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => 1,
        // Nobody answers for them before their pods run.
        ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => 3,
        _ => 2,
    }
}
