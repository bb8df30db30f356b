//! What all control-plane services have in common.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use machine::Root;
use machine::account::Account;
use machine::service::{
    Capabilities, Filesystem, Readiness, Resources, Restart, RestartPolicy, ServiceId, ServiceSpec, Slice, Stop, StopScope,
};

pub(crate) const ETCD: &str = "etcd";
pub(crate) const API_SERVER: &str = "kube-apiserver";
pub(crate) const CONTROLLER_MANAGER: &str = "kube-controller-manager";
pub(crate) const SCHEDULER: &str = "kube-scheduler";

/// For peers that speak TLS 1.2 only: forward secrecy, authenticated encryption; every server certificate here is ECDSA.
pub(crate) const CIPHER_SUITES: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,\
                                        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";

/// One of this module's names.
pub(crate) fn service_id(name: &'static str) -> ServiceId {
    ServiceId::new(name).expect("the names above are legal")
}

/// An unprivileged, read-only, always restarted service; the caller fills in what is its own.
pub(crate) fn control_plane_service(root: &Root, name: &'static str, account: Account, args: Vec<String>) -> ServiceSpec {
    ServiceSpec {
        id: service_id(name),
        program: root.path("usr/bin").join(name),
        args,
        environment: BTreeMap::new(),
        account,
        capabilities: Capabilities::Only(Vec::new()),
        no_new_privileges: true,
        filesystem: Filesystem::ReadOnly { writable: Vec::new() },
        slice: Slice::Controlplane,
        resources: Resources { cpu_weight: Some(100), memory_min_bytes: None, memory_max_bytes: None, pids_max: Some(1024) },
        open_files: 65_536,
        oom_score_adjust: -900,
        after: Vec::new(),
        readiness: Readiness::Notify,
        restart: Restart { policy: RestartPolicy::Always, backoff_min: Duration::from_secs(1), backoff_max: Duration::from_secs(30) },
        stop: Stop { deadline: Duration::from_secs(30), whole: StopScope::Cgroup },
        files_digest: String::new(),
    }
}

pub(crate) const MIB: u64 = 1 << 20;

/// The `index`th address of a Service network: 1 is the API server's, 10 is DNS'.
pub(crate) fn service_address(network: &IpNet, index: u8) -> Option<IpAddr> {
    let address = match network.network() {
        IpAddr::V4(base) => IpAddr::from(u32::from(base).checked_add(u32::from(index))?.to_be_bytes()),
        IpAddr::V6(base) => IpAddr::from(u128::from(base).checked_add(u128::from(index))?.to_be_bytes()),
    };
    network.contains(&address).then_some(address)
}
