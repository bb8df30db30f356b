//! What this control plane applied to the cluster, object by object.

use serde::{Deserialize, Serialize};

use crate::store::{Resource, Store};

/// An object, named as kubectl names it: `ConfigMap/kube-system/coredns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestStatus {
    /// `corten`, or the name of the user's manifest that has it.
    pub manifest: String,
    pub state: ManifestState,
    /// What is wrong, or why it was left; empty when it was applied as it is.
    pub message: String,
    /// Digest of what was applied, or tried to be.
    pub digest: String,
    /// How often it was tried since it changed.
    pub tries: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ManifestState {
    Applied,
    /// But for fields that somebody else has written, and that are theirs.
    Yielded,
    /// Somebody else has written fields of it: nothing of it was applied.
    Conflict,
    /// Its kind is not known to the API server, or not yet.
    Waiting,
    /// The API server refused it.
    Refused,
    /// No manifest has it any more, and it was left to people.
    Left,
    /// No manifest has it any more, and it could not be deleted yet.
    Undeleted,
}

/// All objects together; one, `cluster`. It is there once Corten's own were applied and the user's tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestSet {
    pub objects: usize,
    pub digest: String,
    /// Whether what no manifest has any more is gone.
    pub pruned: bool,
}

impl Resource for ManifestStatus {
    const KIND: &'static str = "manifests";
}
impl Resource for ManifestSet {
    const KIND: &'static str = "manifestsets";
}

impl ManifestState {
    /// Whether there is nothing more to be done.
    pub fn is_final(self) -> bool {
        match self {
            ManifestState::Applied | ManifestState::Yielded | ManifestState::Left => true,
            ManifestState::Conflict | ManifestState::Waiting | ManifestState::Refused | ManifestState::Undeleted => false,
        }
    }
}

impl ManifestSet {
    /// Name of the only one.
    pub const NAME: &'static str = "cluster";

    /// Whether what the cluster cannot do without was applied: the agents' roles among it.
    pub fn is_applied(store: &Store) -> bool {
        store.get::<ManifestSet>(ManifestSet::NAME).is_some()
    }
}
