//! How the API servers reach the control planes' agents for metrics.k8s.io and custom.metrics.k8s.io: an APIService a group, one Service without a
//! selector, and an EndpointSlice a control plane. Objects only; the agents keep them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService, APIServiceSpec, ServiceReference};

use crate::facts::Facts;
use crate::manifests::labels;
use crate::pki::{CertificateRequest, San, Usage};
use crate::ports::METRICS_API_PORT;

/// Of the Service.
pub const NAMESPACE: &str = "kube-system";
pub const NAME: &str = "corten-metrics";
/// EndpointSlices and their Service are joined by it.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

const PORT: i32 = 443;
const PORT_NAME: &str = "https";
/// Of a certificate that lives in memory alone, and is made anew long before.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// An API that agents answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// CPU and memory: `kubectl top`, and autoscalers by resources.
    Resource,
    /// Pressure: autoscalers by pods' and objects' own metrics.
    Custom,
}

impl Group {
    pub const ALL: [Group; 2] = [Group::Resource, Group::Custom];

    pub fn name(self) -> &'static str {
        match self {
            Group::Resource => "metrics.k8s.io",
            Group::Custom => "custom.metrics.k8s.io",
        }
    }

    pub fn version(self) -> &'static str {
        match self {
            Group::Resource => "v1beta1",
            Group::Custom => "v1beta2",
        }
    }

    /// As objects have it: `metrics.k8s.io/v1beta1`.
    pub fn api_version(self) -> String {
        format!("{}/{}", self.name(), self.version())
    }

    /// Of its APIService.
    pub fn object_name(self) -> String {
        format!("{}.{}", self.version(), self.name())
    }
}

/// What is told of a pod or a node as a metric of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    CpuSome,
    MemoryFull,
    IoFull,
}

impl Pressure {
    pub const ALL: [Pressure; 3] = [Pressure::CpuSome, Pressure::MemoryFull, Pressure::IoFull];

    pub fn name(self) -> &'static str {
        match self {
            Pressure::CpuSome => "pressure_cpu_some",
            Pressure::MemoryFull => "pressure_memory_full",
            Pressure::IoFull => "pressure_io_full",
        }
    }
}

/// For a certificate that vouches for the Service's name, of the Kubernetes authority.
pub fn certificate_request(facts: &Facts) -> CertificateRequest {
    let name = format!("{NAME}.{NAMESPACE}.svc");
    let names = [San::Dns(name.clone())].into_iter().chain(facts.node_ips.iter().copied().map(San::Ip));
    CertificateRequest { common_name: name, organization: None, sans: names.collect(), usage: Usage::Server, lifetime: LIFETIME }
}

pub fn service() -> Service {
    Service {
        metadata: metadata(NAME, BTreeMap::new()),
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: PORT,
                target_port: Some(IntOrString::Int(METRICS_API_PORT.into())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Of a control plane's slice.
pub fn slice_name(node_name: &str) -> String {
    format!("{NAME}-{node_name}")
}

/// Where a control plane's agent answers. It is asked only while it is ready.
pub fn slice(node_name: &str, address: IpAddr, ready: bool) -> EndpointSlice {
    let joined = BTreeMap::from([
        (SERVICE_NAME_LABEL.to_owned(), NAME.to_owned()),
        ("endpointslice.kubernetes.io/managed-by".to_owned(), "corten".to_owned()),
    ]);
    EndpointSlice {
        metadata: metadata(&slice_name(node_name), joined),
        address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
            node_name: Some(node_name.to_owned()),
            ..Endpoint::default()
        }]),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(METRICS_API_PORT.into()),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

/// `authorities`: PEM of those of which one issued the serving certificate.
pub fn api_service(group: Group, authorities: &str) -> APIService {
    APIService {
        metadata: ObjectMeta { name: Some(group.object_name()), labels: Some(labels()), ..ObjectMeta::default() },
        spec: Some(APIServiceSpec {
            ca_bundle: Some(ByteString(authorities.as_bytes().to_vec())),
            group: Some(group.name().to_owned()),
            // As metrics-server has them.
            group_priority_minimum: 100,
            version_priority: 100,
            version: Some(group.version().to_owned()),
            service: Some(ServiceReference { name: Some(NAME.to_owned()), namespace: Some(NAMESPACE.to_owned()), port: Some(PORT) }),
            ..APIServiceSpec::default()
        }),
        ..APIService::default()
    }
}

fn metadata(name: &str, more: BTreeMap<String, String>) -> ObjectMeta {
    let labels = labels().into_iter().chain(more).collect();
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.to_owned()), labels: Some(labels), ..ObjectMeta::default() }
}
