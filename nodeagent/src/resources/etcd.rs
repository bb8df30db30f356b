//! The members of etcd's cluster, as this control plane sees them.

use std::collections::BTreeSet;

use controlplane::etcd::MemberId;
use serde::{Deserialize, Serialize};

use crate::store::{Resource, Store};

/// A member, named as etcd names it, or by its identity before it first starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdMember {
    pub id: MemberId,
    pub role: EtcdRole,
    /// Whether it is this machine's.
    pub local: bool,
    /// It answers, and knows a leader.
    pub healthy: bool,
    /// Why it is not healthy; empty when it is.
    pub message: String,
    /// Of the program; empty where it does not answer.
    pub version: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EtcdRole {
    Leader,
    Voter,
    /// It gets the data but has no vote yet.
    Learner,
    /// It was, and the others have removed it.
    Removed,
}

impl Resource for EtcdMember {
    const KIND: &'static str = "etcdmembers";
}

impl EtcdMember {
    /// The names of all control planes that this one knows: of members, but for those that were removed.
    pub fn control_planes(store: &Store) -> BTreeSet<String> {
        let members = store.all::<EtcdMember>().into_iter();
        members.filter(|(_, member)| member.role != EtcdRole::Removed).map(|(name, _)| name).collect()
    }

    /// Whether the others have removed this machine's member: its data is worth nothing to anybody, and its etcd can do nothing but end.
    pub fn own_removed(store: &Store) -> bool {
        store.all::<EtcdMember>().values().any(|member| member.local && member.role == EtcdRole::Removed)
    }
}
