//! The kubelet's config (KubeletConfiguration, kubelet.config.k8s.io/v1beta1) and its command line.

use std::net::IpAddr;
use std::path::PathBuf;

use controlplane::Facts;
use controlplane::manifests::{self, ManifestError};
use machine::config::{CloudProvider, Config, Role};
use machine::service::Slice;
use serde_json::{Map, Value, json};

use crate::controllers::machine::Machine;
use crate::controllers::merge::layered;

/// Where the kubelet takes calls of API servers.
pub const PORT: u16 = 10250;
/// Where the kubelet tells that it is well; loopback only.
pub const HEALTH_PORT: u16 = 10248;

/// Paths that the kubelet's config names.
#[derive(Debug, Clone)]
pub struct Paths {
    pub client_ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub fn config(machine: &Machine, provider_id: Option<&str>, paths: &Paths) -> Result<Map<String, Value>, ManifestError> {
    let Machine { config, facts } = machine;
    let mut defaults = defaults(config, facts)?;
    if let Some(id) = provider_id {
        defaults["providerID"] = id.into();
    }
    Ok(layered(defaults, &config.machine.kubelet.config, owned(config, facts, paths)))
}

/// What the user may change.
fn defaults(config: &Config, facts: &Facts) -> Result<Value, ManifestError> {
    let mut defaults = json!({
        "authentication": { "webhook": { "enabled": true, "cacheTTL": "2m0s" } },
        "clusterDNS": [manifests::dns_address(config)?],
        "containerLogMaxFiles": 5,
        "containerLogMaxSize": "10Mi",
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": false,
        // There is no iptables in the image unless a proxy mode wants it.
        "makeIPTablesUtilChains": false,
        "maxParallelImagePulls": 4,
        "podPidsLimit": 4096,
        "protectKernelDefaults": true,
        "resolvConf": facts.root.pods_resolv_conf(),
        "seccompDefault": true,
        "serializeImagePulls": false,
        "streamingConnectionIdleTimeout": "5m0s",
        "systemReserved": reserved(config.machine.role),
        "tlsMinVersion": "VersionTLS13",
    });
    if facts.node_ips.first().is_some_and(IpAddr::is_ipv6) {
        // Upstream's own is IPv4's.
        defaults["address"] = json!("::");
    }
    Ok(defaults)
}

/// What the rest of Corten leans on.
fn owned(config: &Config, facts: &Facts, paths: &Paths) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": paths.client_ca } },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "clusterDomain": config.cluster.network.dns_domain,
        "containerRuntimeEndpoint": format!("unix://{}", facts.root.containerd_socket().display()),
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": HEALTH_PORT,
        "kubeletCgroups": format!("/{}/{}", Slice::Podruntime.name(), super::ID),
        "registerWithTaints": super::taints(config),
        // The agent issues both certificates and renews them; the kubelet reads them again when they change.
        "rotateCertificates": false,
        "serverTLSBootstrap": false,
        // Both need logind, which is not there: init stops the kubelet, and the pods by their own grace periods after it.
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
        "staticPodPath": facts.root.static_pods(),
        "tlsCertFile": paths.certificate,
        "tlsPrivateKeyFile": paths.key,
        "volumePluginDir": facts.root.kubelet_directory().join("volumeplugins"),
    })
}

/// What services take, kept back from pods: measured on small clusters, rounded up.
fn reserved(role: Role) -> Value {
    match role {
        Role::ControlPlane => json!({ "cpu": "200m", "memory": "1Gi" }),
        Role::Worker => json!({ "cpu": "100m", "memory": "256Mi" }),
    }
}

/// Flags: what the config has no field for, and the user's.
pub fn args(machine: &Machine) -> Vec<String> {
    let Machine { config, facts } = machine;
    let node_ips: Vec<String> = facts.node_ips.iter().map(IpAddr::to_string).collect();
    let root = &facts.root;
    let mut args = vec![
        format!("--config={}", root.kubelet_config().display()),
        format!("--kubeconfig={}", root.kubelet_kubeconfig().display()),
        format!("--root-dir={}", root.kubelet_directory().display()),
        format!("--cert-dir={}", root.kubelet_pki().display()),
        format!("--hostname-override={}", facts.node_name),
        format!("--node-ip={}", node_ips.join(",")),
    ];
    if config.cluster.cloud_provider == CloudProvider::External {
        args.push("--cloud-provider=external".to_owned());
    }
    args.extend(config.machine.kubelet.extra_args.iter().map(|(flag, value)| format!("--{flag}={value}")));
    args
}
