//! What has to be known of a Service of type LoadBalancer. Whoever may write Services writes these: what cannot be used is told, and nothing else
//! hangs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service as KubernetesService;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

/// Of Services that want an address of the pools where others see to those of no class.
pub const CLASS: &str = "corten.dev/link";
/// Addresses that a Service asks for, separated by commas.
pub const WANTED_ANNOTATION: &str = "corten.dev/load-balancer-ips";
/// Condition of a Service: while it is True, its message is the name of the Node that announces the addresses.
pub const ANNOUNCED: &str = "corten.dev/Announced";
/// Owner of the status.
pub const FIELD_MANAGER: &str = "corten-load-balancer";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

pub fn key(metadata: &ObjectMeta) -> Key {
    Key { namespace: metadata.namespace.clone().unwrap_or_default(), name: metadata.name.clone().unwrap_or_default() }
}

/// By their keys.
pub type Services = BTreeMap<Key, Service>;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    pub uid: String,
    /// RFC 3339, UTC: the older of two has the better claim.
    pub created_at: String,
    pub class: Option<String>,
    /// IPv4 or not, in the order of its families.
    pub families: Vec<bool>,
    /// `externalTrafficPolicy: Local`: only nodes with an endpoint take its packets.
    pub local: bool,
    pub asks_for: Asks,
    /// As its status has them.
    pub addresses: Vec<IpAddr>,
    /// Who wrote them, where it was not this controller.
    pub written_by: Option<String>,
    /// The status has nothing but these addresses, each by itself.
    pub plain: bool,
    pub announcer: Option<String>,
}

/// Which addresses a Service asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Asks {
    /// Any will do.
    #[default]
    Nothing,
    /// One of each family at most.
    For(BTreeSet<IpAddr>),
    /// Why it cannot be said.
    Unreadable(String),
}

impl Asks {
    pub fn of_family(&self, ipv4: bool) -> Option<IpAddr> {
        match self {
            Asks::For(addresses) => addresses.iter().find(|address| address.is_ipv4() == ipv4).copied(),
            Asks::Nothing | Asks::Unreadable(_) => None,
        }
    }
}

impl Service {
    pub fn read(service: &KubernetesService) -> Service {
        let (spec, metadata) = (service.spec.clone().unwrap_or_default(), &service.metadata);
        let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone()).unwrap_or_default();
        let annotation = |name: &str| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned();
        let asked = annotation(WANTED_ANNOTATION).map(|text| (WANTED_ANNOTATION, text));
        let asked = asked.or(spec.load_balancer_ip.filter(|text| !text.is_empty()).map(|text| ("spec.loadBalancerIP", text)));
        let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
        let announced = conditions.into_iter().flatten().find(|condition| condition.type_ == ANNOUNCED && condition.status == "True");
        Service {
            uid: metadata.uid.clone().unwrap_or_default(),
            created_at: metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
            class: spec.load_balancer_class,
            families: spec.ip_families.unwrap_or_default().iter().map(|family| family == "IPv4").collect(),
            local: spec.external_traffic_policy.as_deref() == Some("Local"),
            asks_for: asked.map_or(Asks::Nothing, |(field, text)| addresses(field, &text).map_or_else(Asks::Unreadable, Asks::For)),
            addresses: ingress.iter().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect(),
            written_by: if ingress.is_empty() { None } else { foreign_writer(metadata) },
            plain: ingress.iter().all(|ingress| {
                let alone = ingress.hostname.is_none() && ingress.ports.as_ref().is_none_or(Vec::is_empty);
                alone && ingress.ip.is_some() && ingress.ip_mode.as_deref() == Some("VIP")
            }),
            announcer: announced.map(|condition| condition.message.clone()),
        }
    }
}

fn addresses(field: &str, text: &str) -> Result<BTreeSet<IpAddr>, String> {
    let mut found = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let shown: String = part.chars().take(64).collect();
        let address: IpAddr = part
            .parse()
            .map_err(|_| format!("{field}: {shown:?} is no address; expected one, or one of each family, such as 192.0.2.10"))?;
        if found.iter().any(|other: &IpAddr| other.is_ipv4() == address.is_ipv4()) {
            return Err(format!("{field}: {shown} is a second address of its family; expected at most one of each"));
        }
        found.insert(address);
    }
    Ok(found)
}

/// Who put addresses into the status, where it was somebody else. The API server keeps account of it (managed fields).
fn foreign_writer(metadata: &ObjectMeta) -> Option<String> {
    let writes = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        fields.and_then(|fields| fields.pointer("/f:status/f:loadBalancer/f:ingress")).is_some()
    };
    let writers: Vec<&str> =
        metadata.managed_fields.iter().flatten().filter(writes).map(|entry| entry.manager.as_deref().unwrap_or_default()).collect();
    match writers.as_slice() {
        writers if writers.contains(&FIELD_MANAGER) => None,
        [] => Some("somebody unknown".to_owned()),
        [writer, ..] => Some((*writer).to_owned()),
    }
}
