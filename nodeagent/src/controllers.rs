//! The controllers, one folder a subject: `plan` decides, `render` makes bytes, `apply` acts.

pub mod api;
pub mod approver;
pub mod authorities;
pub mod balancer;
pub mod cloud;
pub mod cluster_node;
pub mod cni;
pub mod containerd;
pub mod control_plane;
pub mod directory;
pub mod dns;
pub mod election;
pub mod etcd;
pub mod etcd_hold;
pub mod etcd_members;
pub mod etcd_repair;
pub mod extra_files;
pub mod firewall;
#[cfg(test)]
pub mod fixtures;
pub mod images;
pub mod join;
pub mod kernel;
pub mod kube_proxy;
pub mod kubelet;
pub mod leader;
pub mod load_balancer;
pub mod machine;
pub mod machine_record;
pub mod manifests;
pub mod masquerade;
pub mod merge;
pub mod metadata_guard;
pub mod metrics_api;
#[cfg(test)]
pub mod namespace;
pub mod network;
pub mod nft;
pub mod node_conditions;
pub mod overlay;
pub mod pki;
pub mod policy;
pub mod pressure_taints;
#[cfg(test)]
pub mod program;
#[cfg(test)]
pub mod real_cluster;
#[cfg(test)]
pub mod real_init;
pub mod rebalancer;
pub mod registries;
pub mod service;
pub mod shared_address;
pub mod static_pods;
pub mod time;
pub mod virtual_ip;
pub mod volumes;
pub mod watch;
pub mod watchdog;
pub mod yaml;
