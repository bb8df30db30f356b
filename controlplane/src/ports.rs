//! The ports of a control plane.

/// kube-apiserver, on every address.
pub const API_SERVER_PORT: u16 = 6443;
/// kube-controller-manager, loopback only.
pub const CONTROLLER_MANAGER_PORT: u16 = 10257;
/// kube-scheduler, loopback only.
pub const SCHEDULER_PORT: u16 = 10259;
/// Scores of nodes for kube-scheduler, which the agent of a control plane gives; loopback only.
pub const SCORES_PORT: u16 = 10262;
/// metrics.k8s.io and custom.metrics.k8s.io, which the agent of a control plane answers, for the API servers' aggregators; on every address.
pub const METRICS_API_PORT: u16 = 10263;
/// etcd for its clients.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd for its peers.
pub const ETCD_PEER_PORT: u16 = 2380;
/// etcd's /metrics and /health, loopback only.
pub const ETCD_METRICS_PORT: u16 = 2381;
/// The machine API.
pub const MACHINE_API_PORT: u16 = 50000;
