//! The `cluster` half of the machine config: what all machines of a cluster share.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::address_range::AddressRange;
use super::pressure::ClusterPressure;
use super::value::{Cidr, Duration, Secret};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cluster {
    /// The cluster's name: a DNS label. No default.
    pub name: String,
    /// URL of the Kubernetes API that kubeconfigs and joining machines use first: `https://<host>:<port>`. No default.
    pub endpoint: String,
    /// Address of the Kubernetes API that one control plane holds at a time, in the network of their node IPs; `endpoint` may name it.
    /// Default: none.
    #[serde(rename = "virtualIP", default, skip_serializing_if = "Option::is_none")]
    pub virtual_ip: Option<IpAddr>,
    /// Addresses of pods and Services, and who carries their packets.
    #[serde(default)]
    pub network: ClusterNetwork,
    /// `host:port` of the machine API of control planes that a machine joins through. Default: none.
    #[serde(default)]
    pub control_planes: Vec<String>,
    /// Certificates of the six authorities; their keys stand in the first control plane's config only. No default.
    pub certificate_authorities: CertificateAuthorities,
    /// Key that signs service account tokens (PEM, PKCS#8). Control planes only, and needed there. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_key: Option<Secret>,
    /// 32 bytes in base64 that encrypt Secrets at rest in etcd. Control planes only, and needed there. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<Secret>,
    /// Lets a machine get its certificate from a control plane: `<6 characters>.<16 characters>`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_token: Option<Secret>,
    /// kube-apiserver. Default: as Corten sets it up.
    #[serde(default)]
    pub api_server: ApiServer,
    /// kube-controller-manager. Default: as Corten sets it up.
    #[serde(default)]
    pub controller_manager: ControllerManager,
    /// kube-scheduler. Default: as Corten sets it up.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// What is done about nodes under pressure. Default: nothing beyond the scheduler's.
    #[serde(default)]
    pub pressure: ClusterPressure,
    /// etcd. Default: as Corten sets it up.
    #[serde(default)]
    pub etcd: Etcd,
    /// What control planes tell Kubernetes of nodes and pods. Default: all that they can.
    #[serde(default)]
    pub metrics: ClusterMetrics,
    /// Whether a cloud's own controller, which you bring as a manifest, sees to the Nodes. Default: none.
    #[serde(default)]
    pub cloud_provider: CloudProvider,
    /// Manifests applied to the cluster once its API answers. Default: none.
    #[serde(default)]
    pub manifests: Vec<Manifest>,
    /// Whether ordinary pods may run on control planes. Default: false.
    #[serde(default)]
    pub allow_scheduling_on_control_planes: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterNetwork {
    /// Networks that pod addresses come from, one per family. Default: 10.244.0.0/16.
    #[serde(rename = "podCIDRs")]
    #[schemars(with = "Vec<Cidr>")]
    pub pod_cidrs: Vec<IpNet>,
    /// Size of a node's part of the pod networks, as prefix lengths. Default: ipv4 24, ipv6 64.
    #[serde(rename = "nodeCIDRMaskSizes")]
    pub node_cidr_mask_sizes: NodeCidrMaskSizes,
    /// Networks that Service addresses come from, one per family. Default: 10.96.0.0/16.
    #[serde(rename = "serviceCIDRs")]
    #[schemars(with = "Vec<Cidr>")]
    pub service_cidrs: Vec<IpNet>,
    /// Domain of Services' names. Default: cluster.local.
    pub dns_domain: String,
    /// Who connects pods: Corten's own overlay, or what you bring. Default: overlay.
    pub cni: Cni,
    /// How the overlay carries packets between machines.
    pub overlay: Overlay,
    /// kube-proxy.
    pub proxy: Proxy,
    /// Addresses for Services of type LoadBalancer, announced on the machines' own link. Default: none.
    pub load_balancer: LoadBalancer,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancer {
    /// What Services get their addresses from; the first pool comes first. Default: none: Services wait for whatever else sees to them.
    pub pools: Vec<AddressPool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressPool {
    /// Ranges, networks and single addresses, of the network of the node IPs, and nobody's own. Of a network its first address is left out, and
    /// the last one of IPv4. No default.
    pub addresses: Vec<AddressRange>,
}

impl LoadBalancer {
    /// Whether an address is one that goes from machine to machine.
    pub fn has(&self, address: IpAddr) -> bool {
        self.ranges().any(|range| range.contains(address))
    }

    pub fn ranges(&self) -> impl Iterator<Item = &AddressRange> {
        self.pools.iter().flat_map(|pool| &pool.addresses)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeCidrMaskSizes {
    /// Prefix length of a node's IPv4 part. Default: 24.
    pub ipv4: u8,
    /// Prefix length of a node's IPv6 part. Default: 64.
    pub ipv6: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CloudProvider {
    /// Nodes are ready for pods as they come.
    #[default]
    None,
    /// Nodes come with a taint that the cloud's controller takes away once it has seen to them.
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Cni {
    /// Corten connects the pods.
    Overlay,
    /// Bring your own: Cilium, Calico and the like.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overlay {
    /// Default: vxlan, which runs on any network.
    pub backend: OverlayBackend,
    /// UDP port of vxlan and wireguard; wireguard has the next one for IPv6. Default: 8472.
    pub port: u16,
    /// MTU of pods: `auto` (from the link below) or a number. Default: auto.
    pub mtu: Mtu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OverlayBackend {
    /// In UDP, in the clear.
    Vxlan,
    /// In UDP, encrypted; a machine that speaks it sends pods' packets in no other way.
    Wireguard,
    /// As they are, between machines on one link; to all others as vxlan.
    HostGateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Mtu {
    Auto(Auto),
    Bytes(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Auto {
    Auto,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Proxy {
    /// How kube-proxy programs Services; none leaves them to your network add-on. Default: nftables.
    pub mode: ProxyMode,
    /// Fields of upstream's KubeProxyConfiguration. Default: none.
    pub config: Map<String, Value>,
    /// Further flags of kube-proxy. Default: none.
    pub extra_args: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProxyMode {
    /// By nftables.
    Nftables,
    /// By iptables.
    Iptables,
    /// By IPVS. Upstream has deprecated it: off by default from Kubernetes 1.40 on, removed in 1.43.
    Ipvs,
    /// By no kube-proxy.
    None,
}

/// One authority for each kind of trust, apart from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateAuthorities {
    /// Serving and client identities of the Kubernetes API.
    pub kubernetes: CertificateAuthority,
    /// Kubelets' serving certificates.
    pub kubelet: CertificateAuthority,
    /// etcd members among each other.
    pub etcd_peer: CertificateAuthority,
    /// etcd and its clients.
    pub etcd_client: CertificateAuthority,
    /// The API server as a client of extension API servers.
    pub front_proxy: CertificateAuthority,
    /// The machine API: machines and the people who manage them.
    pub machine: CertificateAuthority,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateAuthority {
    /// One certificate, PEM; where another takes its place, several that are accepted: the first is the one that issues. No default.
    pub certificate: String,
    /// Key of the first certificate, PEM, PKCS#8. Only in the first control plane's config. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApiServer {
    /// Further flags of kube-apiserver. Default: none.
    pub extra_args: BTreeMap<String, String>,
    /// Further names and addresses in its serving certificate. Default: none.
    #[serde(rename = "certificateSANs")]
    pub certificate_sans: Vec<String>,
    /// Fields of upstream's audit Policy. Default: metadata of everything but health checks and events.
    pub audit_policy: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControllerManager {
    /// Further flags of kube-controller-manager. Default: none.
    pub extra_args: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scheduler {
    /// Further flags of kube-scheduler. Default: none.
    pub extra_args: BTreeMap<String, String>,
    /// Fields of upstream's KubeSchedulerConfiguration. Default: none.
    pub config: Map<String, Value>,
    /// Where pods go by how busy nodes are. Default: as Corten sets it up.
    pub pressure: SchedulerPressure,
}

/// What the measured load and pressure of nodes count for, beside the scheduler's own rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SchedulerPressure {
    /// As much as so many of the scheduler's own rules of weight 1; 0: nothing. Default: 2.
    pub weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClusterMetrics {
    /// Whether control planes answer metrics.k8s.io and custom.metrics.k8s.io, which `kubectl top` and autoscalers ask. Switch it off before
    /// you install another server of them. Default: true.
    pub api: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Etcd {
    /// Further fields of etcd's configuration file, by flag name. Default: none.
    pub extra_args: BTreeMap<String, String>,
    /// Snapshots that are taken by themselves, encrypted with `cluster.encryptionKey`. Default: none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<EtcdSnapshots>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EtcdSnapshots {
    /// How often one is taken. Default: 6h.
    pub interval: Duration,
    /// How many are kept, the newest ones. Default: 28.
    pub keep: u32,
    /// Directory of each control plane where they go, in `/etcd/snapshots` or `/var`. Default: /etcd/snapshots/scheduled.
    pub directory: String,
    /// S3-compatible storage where they go instead, once for the cluster. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Bucket>,
}

impl Default for EtcdSnapshots {
    fn default() -> EtcdSnapshots {
        let directory = "/etcd/snapshots/scheduled".to_owned();
        EtcdSnapshots { interval: Duration(std::time::Duration::from_secs(6 * 3600)), keep: 28, directory, s3: None }
    }
}

/// A bucket of S3-compatible storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Bucket {
    /// `https://s3.example.com`; buckets are named in the path. No default.
    pub endpoint: String,
    /// Region that requests are signed for. Default: us-east-1.
    #[serde(default = "S3Bucket::default_region")]
    pub region: String,
    /// No default.
    pub bucket: String,
    /// What each object's name begins with, such as `clusters/demo/`. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// No default.
    pub access_key_id: String,
    /// No default.
    pub secret_access_key: Secret,
    /// Authorities to trust for https, PEM. Default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl S3Bucket {
    fn default_region() -> String {
        "us-east-1".to_owned()
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Names the manifest in messages. No default.
    pub name: String,
    /// One or more Kubernetes objects in YAML; masked for readers, because Secrets may be among them. No default.
    #[schemars(extend("writeOnly" = true))]
    pub contents: String,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Default for ClusterNetwork {
    fn default() -> ClusterNetwork {
        ClusterNetwork {
            pod_cidrs: vec![IpNet::new_assert(IpAddr::from([10, 244, 0, 0]), 16)],
            node_cidr_mask_sizes: NodeCidrMaskSizes::default(),
            service_cidrs: vec![IpNet::new_assert(IpAddr::from([10, 96, 0, 0]), 16)],
            dns_domain: "cluster.local".to_owned(),
            cni: Cni::Overlay,
            overlay: Overlay::default(),
            proxy: Proxy::default(),
            load_balancer: LoadBalancer::default(),
        }
    }
}

impl Default for NodeCidrMaskSizes {
    fn default() -> NodeCidrMaskSizes {
        NodeCidrMaskSizes { ipv4: 24, ipv6: 64 }
    }
}

impl Default for ClusterMetrics {
    fn default() -> ClusterMetrics {
        ClusterMetrics { api: true }
    }
}

impl Default for SchedulerPressure {
    fn default() -> SchedulerPressure {
        SchedulerPressure { weight: 2 }
    }
}

impl Default for Overlay {
    fn default() -> Overlay {
        Overlay { backend: OverlayBackend::Vxlan, port: 8472, mtu: Mtu::Auto(Auto::Auto) }
    }
}

impl Default for Proxy {
    fn default() -> Proxy {
        Proxy { mode: ProxyMode::Nftables, config: Map::new(), extra_args: BTreeMap::new() }
    }
}

/// How long machine and Kubernetes certificates are valid.
pub const CERTIFICATE_LIFETIME: Duration = Duration(std::time::Duration::from_secs(365 * 86_400));
