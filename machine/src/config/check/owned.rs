//! What `extraArgs` and `config` may not say, because other fields of the machine config or Corten itself decide it, and why.

use serde_json::{Map, Value};

use super::Check;
use crate::config::report::Path;

/// A flag or a dotted field that is not the user's; `*` at its end stands for any rest.
pub struct Owned {
    pub name: &'static str,
    pub because: &'static str,
}

macro_rules! owned {
    ($($name:ident = [$($because:expr => [$($owned:literal),* $(,)?]),* $(,)?];)*) => {
        $(pub const $name: &[Owned] = &[$($(Owned { name: $owned, because: $because }),*),*];)*
    };
}

const AUTHORITIES: &str = "it is made from cluster.certificateAuthorities";
const ETCD: &str = "Corten runs etcd and knows where it is";
const FILE: &str = "Corten writes this file";
const CLOUD: &str = "set cluster.cloudProvider";
const KUBECONFIG: &str = "Corten writes its kubeconfig";
const MASKS: &str = "set cluster.network.nodeCIDRMaskSizes";
const NODE_NAME: &str = "the Node is named by machine.hostname";
const PODS: &str = "set cluster.network.podCIDRs";
const SERVICES: &str = "set cluster.network.serviceCIDRs";
const SERVICE_ACCOUNTS: &str = "it is made from cluster.serviceAccountKey";
const CGROUPS: &str = "init owns the cgroup tree";
const PORT: &str = "health checks and the machine's own clients count on it";
const KIND: &str = "Corten writes it";
const STATIC_PODS: &str = "static pods stand in machine.staticPods";
const NO_LOGIND: &str = "it needs systemd-logind, which is not there: init stops the kubelet and the pods in order";
const EMULATION: &str = "an upgrade sets it until the new image has proved itself";
const LEADER: &str = "with several control planes only one may act";

owned! {
    API_SERVER = [
        AUTHORITIES => [
            "client-ca-file", "kubelet-certificate-authority", "kubelet-client-certificate", "kubelet-client-key", "proxy-client-cert-file",
            "proxy-client-key-file", "requestheader-*", "tls-cert-file", "tls-private-key-file", "tls-sni-cert-key", "cert-dir",
        ],
        ETCD => ["etcd-servers", "etcd-servers-overrides", "etcd-cafile", "etcd-certfile", "etcd-keyfile", "etcd-prefix"],
        SERVICE_ACCOUNTS => ["service-account-key-file", "service-account-signing-key-file", "service-account-signing-endpoint"],
        "it is made from cluster.network.dnsDomain; tokens of another would not be taken" => ["service-account-issuer"],
        SERVICES => ["service-cluster-ip-range"],
        "it is the node's address: see machine.kubelet.nodeIP" => ["advertise-address"],
        "anonymous requests reach the health checks only, by the authentication configuration" => ["anonymous-auth"],
        FILE => ["authentication-config", "authorization-config"],
        "it cannot stand beside the authentication configuration that Corten writes" => ["oidc-*"],
        "it is made from cluster.encryptionKey" => ["encryption-provider-config"],
        "set cluster.apiServer.auditPolicy" => ["audit-policy-file"],
        "static tokens never expire and are no identity" => ["token-auth-file"],
        "there is no insecure port" => ["insecure-*"],
        PORT => ["secure-port"],
        EMULATION => ["emulated-version", "emulation-forward-compatible"],
    ];
    CONTROLLER_MANAGER = [
        AUTHORITIES => ["client-ca-file", "cluster-signing-*", "requestheader-*", "root-ca-file", "tls-cert-file", "tls-private-key-file"],
        KUBECONFIG => ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "master"],
        SERVICE_ACCOUNTS => ["service-account-private-key-file"],
        SERVICES => ["service-cluster-ip-range"],
        PODS => ["cluster-cidr"],
        MASKS => ["node-cidr-mask-size*"],
        "set cluster.network.cni" => ["allocate-node-cidrs"],
        CLOUD => ["cloud-provider"],
        LEADER => ["leader-elect"],
        PORT => ["secure-port"],
        EMULATION => ["emulated-version"],
        "each controller has its own account" => ["use-service-account-credentials"],
    ];
    SCHEDULER = [
        KUBECONFIG => ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig", "master"],
        "set cluster.scheduler.config" => ["config", "write-config-to"],
        AUTHORITIES => ["client-ca-file", "requestheader-*", "tls-cert-file", "tls-private-key-file"],
        LEADER => ["leader-elect"],
        PORT => ["secure-port"],
        EMULATION => ["emulated-version"],
    ];
    SCHEDULER_CONFIG = [
        KIND => ["apiVersion", "kind"],
        KUBECONFIG => ["clientConnection.kubeconfig"],
        LEADER => ["leaderElection.leaderElect"],
    ];
    ETCD_FLAGS = [
        "Corten keeps etcd's members and their addresses" => [
            "name", "initial-*", "advertise-client-urls", "listen-*", "discovery*", "force-new-cluster", "host-whitelist",
        ],
        "etcd's data lies on the volume ETCD" => ["data-dir", "wal-dir"],
        AUTHORITIES => [
            "cert-file", "key-file", "trusted-ca-file", "client-*", "peer-*", "auto-tls", "self-signed-cert-validity",
        ],
        FILE => ["config-file"],
    ];
    PROXY = [
        "set cluster.network.proxy.config" => ["config", "write-config-to"],
        "set cluster.network.proxy.mode" => ["proxy-mode"],
        PODS => ["cluster-cidr"],
        KUBECONFIG => ["kubeconfig", "master"],
        NODE_NAME => ["hostname-override"],
        "kube-proxy would end at once" => ["cleanup", "init-only", "version"],
    ];
    PROXY_CONFIG = [
        KIND => ["apiVersion", "kind"],
        "set cluster.network.proxy.mode" => ["mode"],
        PODS => ["clusterCIDR"],
        KUBECONFIG => ["clientConnection.kubeconfig"],
        NODE_NAME => ["hostnameOverride"],
        "init sets it, and kube-proxy may not" => ["oomScoreAdj"],
        "it is for Windows" => ["winkernel", "windowsRunAsService"],
    ];
    KUBELET = [
        "set machine.kubelet.config" => ["config", "config-dir"],
        KUBECONFIG => ["kubeconfig", "bootstrap-kubeconfig"],
        "set machine.kubelet.labels" => ["node-labels"],
        "set machine.kubelet.taints" => ["register-with-taints"],
        "set machine.kubelet.nodeIP" => ["node-ip"],
        CLOUD => ["cloud-provider"],
        "set machine.kubelet.config.providerID" => ["provider-id"],
        NODE_NAME => ["hostname-override"],
        STATIC_PODS => ["pod-manifest-path", "manifest-url*"],
        "Corten runs containerd" => ["container-runtime*", "image-service-endpoint", "runtime-cgroups"],
        "the volumes have fixed places" => ["root-dir", "volume-plugin-dir", "log-dir"],
        "the agent issues the kubelet's certificates" => ["cert-dir", "client-ca-file", "tls-cert-file", "tls-private-key-file", "rotate-*"],
        "anybody could run programs in pods" => ["anonymous-auth", "authorization-mode"],
        CGROUPS => ["cgroup*", "kubelet-cgroups", "system-cgroups", "system-reserved-cgroup", "kube-reserved-cgroup"],
        SERVICES => ["cluster-dns"],
        "set cluster.network.dnsDomain" => ["cluster-domain"],
        "the kubelet would end at once" => ["runonce", "version"],
    ];
    KUBELET_CONFIG = [
        KIND => ["apiVersion", "kind"],
        STATIC_PODS => ["staticPodPath", "staticPodURL", "staticPodURLHeader"],
        "set machine.kubelet.taints" => ["registerWithTaints"],
        "the machine is a node" => ["registerNode", "enableServer", "runOnce"],
        "the volumes have fixed places" => ["podLogsDir", "volumePluginDir"],
        "the agent issues the kubelet's certificates" => [
            "tlsCertFile", "tlsPrivateKeyFile", "rotateCertificates", "serverTLSBootstrap", "authentication.x509",
        ],
        "anybody could run programs in pods" => ["authentication.anonymous", "authorization.mode"],
        PORT => ["address", "port", "healthzPort", "healthzBindAddress"],
        CGROUPS => [
            "cgroupDriver", "cgroupRoot", "cgroupsPerQOS", "kubeletCgroups", "systemCgroups", "systemReservedCgroup", "kubeReservedCgroup",
        ],
        "Corten runs containerd" => ["containerRuntimeEndpoint", "imageServiceEndpoint"],
        "it follows from cluster.network.serviceCIDRs" => ["clusterDNS"],
        "set cluster.network.dnsDomain" => ["clusterDomain"],
        PODS => ["podCIDR"],
        NO_LOGIND => ["shutdownGracePeriod", "shutdownGracePeriodCriticalPods", "shutdownGracePeriodByPodPriority"],
    ];
}

/// Why the name is not the user's.
pub fn reason(table: &[Owned], name: &str) -> Option<&'static str> {
    let matches = |owned: &&Owned| match owned.name.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => owned.name == name,
    };
    table.iter().find(matches).map(|owned| owned.because)
}

/// Refuses the fields of a pass-through config that are in the table.
pub fn refuse_fields(path: &Path, config: &Map<String, Value>, table: &[Owned], check: &mut Check<'_>) {
    for owned in table {
        let (mut here, mut value) = (path.clone(), None);
        let mut fields = Some(config);
        for name in owned.name.split('.') {
            here = here.key(name);
            value = fields.and_then(|fields| fields.get(name));
            fields = value.and_then(Value::as_object);
        }
        if value.is_some() {
            refuse(&here, owned.because, check);
        }
    }
}

pub fn refuse(path: &Path, because: &str, check: &mut Check<'_>) {
    let remedy = if because.starts_with("set ") { format!("{because} instead") } else { format!("remove it: {because}") };
    check.add(path, "not yours to set", "", remedy);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_rest() {
        assert!(reason(API_SERVER, "oidc-issuer-url").is_some());
        assert!(reason(API_SERVER, "secure-port").is_some());
        assert!(reason(API_SERVER, "secure-port-x").is_none());
        assert!(reason(API_SERVER, "v").is_none());
    }
}
