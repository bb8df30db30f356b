//! The `machine` half of the machine config: what is this machine's own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::audit::Audit;
use super::firewall::Firewall;
use super::health::Health;
use super::link::{Interface, RoutingRule};
use super::pressure::MachinePressure;
use super::value::{Address, ByteSize, Cidr, Duration, Secret};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Machine {
    /// What the machine is in its cluster. No default.
    pub role: Role,
    /// Name of the machine and of its Kubernetes node: a DNS subdomain. Default: what DHCP says, else `corten-<first 8 digits of the machine id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Which disk to install to, when the machine was booted from an installation medium. Default: the only one that can be installed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// Links, addresses, resolvers and time servers of the machine.
    #[serde(default)]
    pub network: HostNetwork,
    /// The kubelet and its Node.
    #[serde(default)]
    pub kubelet: Kubelet,
    /// Where images come from.
    #[serde(default)]
    pub registries: Registries,
    /// Modules and settings of the kernel. Its command line belongs to the image.
    #[serde(default)]
    pub kernel: Kernel,
    /// Files under /etc that the machine has besides Corten's own. Default: none.
    #[serde(default)]
    pub files: Vec<File>,
    /// Pods that the kubelet runs from this config, as Kubernetes Pod objects. Default: none.
    #[serde(default)]
    pub static_pods: Vec<Map<String, Value>>,
    /// When an image that was swapped in counts as good.
    #[serde(default)]
    pub health: Health,
    /// When the machine is under pressure.
    #[serde(default)]
    pub pressure: MachinePressure,
    /// Whose updates the machine takes.
    #[serde(default)]
    pub upgrade: Upgrade,
    /// The log of calls that change something.
    #[serde(default)]
    pub audit: Audit,
    /// The hardware watchdog.
    #[serde(default)]
    pub watchdog: Watchdog,
    /// The machine's own screen.
    #[serde(default)]
    pub console: Screen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Runs etcd, the API server, the controller manager and the scheduler besides ordinary nodes' parts.
    ControlPlane,
    /// Runs pods.
    Worker,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Install {
    /// Names the disk: all fields given must match it. No default.
    pub disk: DiskSelector,
    /// Whether a disk with foreign partitions may be overwritten. Default: false.
    #[serde(default)]
    pub wipe: bool,
}

/// Names one disk; all fields given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DiskSelector {
    /// Device node, such as `/dev/nvme0n1`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Serial number, as the disk reports it. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World wide name, such as `eui.0025388b710116a1`. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Least size. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<ByteSize>,
    /// How the disk is made. Default: any.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DiskType>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DiskType {
    Nvme,
    Ssd,
    Hdd,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HostNetwork {
    /// Links to set up. Default: DHCP on every Ethernet link.
    pub interfaces: Vec<Interface>,
    /// Resolvers; given here, DHCP's are not used. Default: none.
    #[schemars(with = "Vec<Address>")]
    pub nameservers: Vec<IpAddr>,
    /// Time servers (NTP), by name or address; given here, DHCP's are not used. Default: none.
    pub time_servers: Vec<String>,
    /// Which packets go by another table of routes than the main one. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RoutingRule>,
    /// What the machine takes from outside. Default: what the cluster needs.
    pub firewall: Firewall,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kubelet {
    /// Fields of upstream's KubeletConfiguration. Default: none.
    pub config: Map<String, Value>,
    /// Further flags of the kubelet. Default: none.
    pub extra_args: BTreeMap<String, String>,
    /// Labels of the Node. Default: none.
    pub labels: BTreeMap<String, String>,
    /// Taints of the Node. Default: none; control planes have node-role.kubernetes.io/control-plane:NoSchedule unless ordinary pods may run there.
    pub taints: Vec<Taint>,
    /// Which of the machine's addresses is the Node's.
    #[serde(rename = "nodeIP")]
    pub node_ip: NodeIp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Such as `example.com/dedicated`. No default.
    pub key: String,
    /// Default: empty.
    #[serde(default)]
    pub value: String,
    /// What happens to pods that do not tolerate it. No default.
    pub effect: TaintEffect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeIp {
    /// Networks that the Node's address is chosen from. Default: that of the default route's link.
    #[schemars(with = "Vec<Cidr>")]
    pub subnets: Vec<IpNet>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Registries {
    /// By registry (`docker.io`, or `*` for all): where to pull from instead. Default: none.
    pub mirrors: BTreeMap<String, Mirror>,
    /// How to log in, by registry host. Default: none.
    pub credentials: BTreeMap<String, Credential>,
    /// Whom to trust, by registry host. Default: the system's authorities.
    pub tls: BTreeMap<String, RegistryTls>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mirror {
    /// URLs, tried in order. No default.
    pub endpoints: Vec<String>,
    /// Whether the registry itself is left out when no mirror has the image. Default: false.
    #[serde(default)]
    pub skip_fallback: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// No default.
    pub username: String,
    /// Password or access token. No default.
    pub password: Secret,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistryTls {
    /// Certificates to trust, PEM. Default: the system's authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Whether any certificate is accepted. Default: false.
    pub insecure_skip_verify: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kernel {
    /// Kernel modules to load, by name. Default: none.
    pub modules: Vec<KernelModule>,
    /// Settings by dotted name, such as `net.core.somaxconn`. Default: none.
    pub sysctls: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KernelModule {
    /// As modprobe knows it. No default.
    pub name: String,
    /// What it is loaded with: `name=value` each. Default: none.
    #[serde(default)]
    pub parameters: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// Absolute, under /etc, and none of Corten's own. No default.
    pub path: String,
    /// Permissions in octal, such as "0644". Default: "0644".
    #[serde(default = "default_mode")]
    pub mode: String,
    /// What stands in it; masked for readers. No default.
    pub contents: Secret,
}

fn default_mode() -> String {
    "0644".to_owned()
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upgrade {
    /// Public keys (Ed25519, 32 bytes in base64) whose signatures on updates count besides those of the image's own keys. Default: none.
    pub trusted_keys: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Watchdog {
    /// How long the machine may hang before the hardware resets it. Default: 60s.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Screen {
    /// Whether a machine with a screen shows there how it is; the lines of kernel and init stay behind Alt+F1, and on serial ports. Default: true.
    pub dashboard: bool,
}

impl Default for Screen {
    fn default() -> Screen {
        Screen { dashboard: true }
    }
}

impl Default for Watchdog {
    fn default() -> Watchdog {
        Watchdog { timeout: Duration(std::time::Duration::from_secs(60)) }
    }
}
