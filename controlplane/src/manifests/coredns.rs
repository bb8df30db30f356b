//! CoreDNS as an ordinary Deployment; its image is in the root and imported at boot, so nothing is pulled.
//!
//! The number of replicas is not among what is applied here: the agents of control planes scale it with the cluster, until somebody else does.

mod replicas;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, HTTPGetAction, PodAffinityTerm, PodAntiAffinity,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext, Service, ServiceAccount,
    ServicePort, ServiceSpec, Sysctl, Toleration, TopologySpreadConstraint, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use machine::config::Config;

use super::{Manifest, ManifestError, labels};
use crate::service::service_address;

pub use replicas::{ClusterSize, replicas};

/// As image-build names what it builds; its version is that of components/coredns/go.mod.
pub const IMAGE: &str = "corten.dev/coredns:v1.14.7";

/// Where the Deployment is, and what it is called.
pub const NAMESPACE: &str = "kube-system";
pub const NAME: &str = "coredns";
const ROLE: &str = "system:coredns";
/// Label of each node by its name.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Pods, tools and people know DNS by this Service and label.
const SERVICE: &str = "kube-dns";
/// Nobody's: any number but 0.
const USER: i64 = 65_532;

/// The address that kubelets give to pods: the tenth of the first Service network.
pub fn dns_address(config: &Config) -> Result<IpAddr, ManifestError> {
    let network = config.cluster.network.service_cidrs.first().ok_or(ManifestError::NoServiceNetwork)?;
    service_address(network, 10).ok_or_else(|| ManifestError::SmallNetwork { network: network.to_string() })
}

pub(super) fn manifests(config: &Config) -> Result<Vec<Manifest>, ManifestError> {
    Ok(vec![
        Manifest::of(&account())?,
        Manifest::of(&role())?,
        Manifest::of(&binding())?,
        Manifest::of(&corefile(&config.cluster.network.dns_domain))?,
        Manifest::of(&service(dns_address(config)?))?,
        Manifest::of(&deployment())?,
        Manifest::of(&budget())?,
    ])
}

fn account() -> ServiceAccount {
    ServiceAccount { metadata: metadata(NAME), ..ServiceAccount::default() }
}

fn role() -> ClusterRole {
    let watch = |group: &str, resources: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|resource| (*resource).to_owned()).collect()),
        verbs: ["list", "watch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    let rules = vec![watch("", &["namespaces", "services"]), watch("discovery.k8s.io", &["endpointslices"])];
    ClusterRole { metadata: cluster_metadata(), rules: Some(rules), ..ClusterRole::default() }
}

fn binding() -> ClusterRoleBinding {
    let role_ref =
        RoleRef { api_group: Some("rbac.authorization.k8s.io".to_owned()), kind: "ClusterRole".to_owned(), name: ROLE.to_owned() };
    let subject =
        Subject { kind: "ServiceAccount".to_owned(), name: NAME.to_owned(), namespace: Some(NAMESPACE.to_owned()), ..Subject::default() };
    ClusterRoleBinding { metadata: cluster_metadata(), role_ref, subjects: Some(vec![subject]) }
}

/// `lameduck` keeps answering while a stopping pod's address is still in use; /etc/resolv.conf is the node's, by the pod's dnsPolicy.
fn corefile(domain: &str) -> ConfigMap {
    let text = format!(
        ".:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
        max_concurrent 1000
    }}
    cache 30
    loop
    reload
    loadbalance
}}
"
    );
    ConfigMap { metadata: metadata(NAME), data: Some(BTreeMap::from([("Corefile".to_owned(), text)])), ..ConfigMap::default() }
}

fn service(address: IpAddr) -> Service {
    let port = |name: &str, protocol: &str, port: i32| ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some(address.to_string()),
        selector: Some(selector()),
        ports: Some(vec![port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)]),
        ..ServiceSpec::default()
    };
    let mut metadata = metadata(SERVICE);
    metadata.annotations = Some(BTreeMap::from([
        ("prometheus.io/port".to_owned(), "9153".to_owned()),
        ("prometheus.io/scrape".to_owned(), "true".to_owned()),
    ]));
    Service { metadata, spec: Some(spec), ..Service::default() }
}

fn deployment() -> Deployment {
    let template =
        PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(all_labels()), ..ObjectMeta::default() }), spec: Some(pod()) };
    let spec = DeploymentSpec { selector: own_pods(), strategy: Some(strategy()), template, ..DeploymentSpec::default() };
    Deployment { metadata: metadata(NAME), spec, ..Deployment::default() }
}

/// One at a time, and never all: a new one may have no node to run on beside the old ones.
fn strategy() -> DeploymentStrategy {
    let rolling = RollingUpdateDeployment { max_unavailable: Some(IntOrString::Int(1)), ..RollingUpdateDeployment::default() };
    DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: Some(rolling) }
}

/// Draining nodes takes one at a time. One that does not work anyway never holds up a drain.
fn budget() -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        selector: Some(own_pods()),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..PodDisruptionBudgetSpec::default()
    };
    PodDisruptionBudget { metadata: metadata(NAME), spec: Some(spec), ..PodDisruptionBudget::default() }
}

/// Over nodes, and over zones where nodes have any. Wishes only: DNS that runs at one place is better than none.
fn spread() -> Vec<TopologySpreadConstraint> {
    let constraint = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(own_pods()),
        // The pods of an old template, on their way out, do not count.
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    [HOSTNAME, "topology.kubernetes.io/zone"].map(constraint).to_vec()
}

/// What spreading weighs against other scores, this wish wins in most clusters: no two on one node.
fn apart() -> Affinity {
    let term = PodAffinityTerm { label_selector: Some(own_pods()), topology_key: HOSTNAME.to_owned(), ..PodAffinityTerm::default() };
    let wish = WeightedPodAffinityTerm { weight: 100, pod_affinity_term: term };
    let anti = PodAntiAffinity { preferred_during_scheduling_ignored_during_execution: Some(vec![wish]), ..PodAntiAffinity::default() };
    Affinity { pod_anti_affinity: Some(anti), ..Affinity::default() }
}

fn pod() -> PodSpec {
    let toleration = |key: &str| Toleration { key: Some(key.to_owned()), operator: Some("Exists".to_owned()), ..Toleration::default() };
    // Port 53 for an ordinary user: the pod's own network namespace has no privileged ports.
    let unprivileged_ports = Sysctl { name: "net.ipv4.ip_unprivileged_port_start".to_owned(), value: "0".to_owned() };
    PodSpec {
        service_account_name: Some(NAME.to_owned()),
        priority_class_name: Some("system-cluster-critical".to_owned()),
        dns_policy: Some("Default".to_owned()),
        affinity: Some(apart()),
        topology_spread_constraints: Some(spread()),
        tolerations: Some(vec![toleration("CriticalAddonsOnly"), toleration("node-role.kubernetes.io/control-plane")]),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }),
            sysctls: Some(vec![unprivileged_ports]),
            ..PodSecurityContext::default()
        }),
        containers: vec![container()],
        volumes: Some(vec![Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource { name: NAME.to_owned(), ..ConfigMapVolumeSource::default() }),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    }
}

fn container() -> Container {
    let port = |name: &str, protocol: &str, port: i32| ContainerPort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        container_port: port,
        ..ContainerPort::default()
    };
    let mount =
        VolumeMount { name: "config".to_owned(), mount_path: "/etc/coredns".to_owned(), read_only: Some(true), ..VolumeMount::default() };
    Container {
        name: NAME.to_owned(),
        image: Some(IMAGE.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec!["-conf".to_owned(), "/etc/coredns/Corefile".to_owned()]),
        ports: Some(vec![port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)]),
        volume_mounts: Some(vec![mount]),
        liveness_probe: Some(Probe { initial_delay_seconds: Some(60), failure_threshold: Some(5), ..probe("/health", 8080) }),
        readiness_probe: Some(probe("/ready", 8181)),
        resources: Some(ResourceRequirements {
            requests: Some(quantities([("cpu", "100m"), ("memory", "70Mi")])),
            limits: Some(quantities([("memory", "170Mi")])),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn probe(path: &str, port: i32) -> Probe {
    let http_get = HTTPGetAction { path: Some(path.to_owned()), port: IntOrString::Int(port), ..HTTPGetAction::default() };
    Probe { http_get: Some(http_get), timeout_seconds: Some(5), ..Probe::default() }
}

fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
}

fn selector() -> BTreeMap<String, String> {
    BTreeMap::from([("k8s-app".to_owned(), SERVICE.to_owned())])
}

fn own_pods() -> LabelSelector {
    LabelSelector { match_labels: Some(selector()), ..LabelSelector::default() }
}

fn all_labels() -> BTreeMap<String, String> {
    let mut all = labels();
    all.extend(selector());
    all.insert("kubernetes.io/cluster-service".to_owned(), "true".to_owned());
    all.insert("kubernetes.io/name".to_owned(), "CoreDNS".to_owned());
    all
}

fn metadata(name: &str) -> ObjectMeta {
    let namespace = Some(NAMESPACE.to_owned());
    ObjectMeta { name: Some(name.to_owned()), namespace, labels: Some(all_labels()), ..ObjectMeta::default() }
}

fn cluster_metadata() -> ObjectMeta {
    ObjectMeta { name: Some(ROLE.to_owned()), labels: Some(all_labels()), ..ObjectMeta::default() }
}
