//! The user accounts of the image. image-build renders /etc/passwd and /etc/group from this table, init runs services under it.

use serde::{Deserialize, Serialize};

/// Who a service runs as. One account a service, so that no service can signal or read another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    Root,
    Etcd,
    KubeApiserver,
    KubeControllerManager,
    KubeScheduler,
    KubeProxy,
    Nobody,
}

impl Account {
    pub const ALL: [Account; 7] = [
        Account::Root,
        Account::Etcd,
        Account::KubeApiserver,
        Account::KubeControllerManager,
        Account::KubeScheduler,
        Account::KubeProxy,
        Account::Nobody,
    ];

    /// Name in /etc/passwd and, for its only group, in /etc/group.
    pub fn name(self) -> &'static str {
        match self {
            Account::Root => "root",
            Account::Etcd => "etcd",
            Account::KubeApiserver => "kube-apiserver",
            Account::KubeControllerManager => "kube-controller-manager",
            Account::KubeScheduler => "kube-scheduler",
            Account::KubeProxy => "kube-proxy",
            Account::Nobody => "nobody",
        }
    }

    /// User and group id: the same number. They name files on STATE and ETCD, so they never change.
    pub fn id(self) -> u32 {
        match self {
            Account::Root => 0,
            Account::Etcd => 60,
            Account::KubeApiserver => 61,
            Account::KubeControllerManager => 62,
            Account::KubeScheduler => 63,
            Account::KubeProxy => 64,
            Account::Nobody => 65534,
        }
    }
}
