//! Asks this machine's etcd, else those of the others, who the members are and how they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use controlplane::etcd::{Member, MemberId};
use controlplane::pki::{self, Authority, CertificateId};
use controlplane::ports::ETCD_CLIENT_PORT;
use futures::future::join_all;
use machine::config::{Config, HostPort, Role};
use machine::disk::Volume;

use super::plan::{Data, Found, Seen, is_removed};
use crate::addresses;
use crate::controllers::etcd::ID;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::etcd::members::{self, Cluster, Health};
use crate::etcd::{Access, Connections, QUICK, access};
use crate::names;
use crate::node::Node;
use crate::resources::bootstrap::Bootstrap;
use crate::resources::etcd_repair::EtcdRepair;
use crate::resources::network::NodeIps;
use crate::resources::services;

pub async fn observe(node: &Node, keyring: &mut Keyring, not_yet: Option<String>) -> Seen {
    observe_by(node, keyring, None, not_yet).await
}

/// The same for who asks again and again.
pub async fn observe_by(node: &Node, keyring: &mut Keyring, kept: Option<&Connections>, not_yet: Option<String>) -> Seen {
    let machine = Machine::observe(node);
    let certificate = keyring.get(node, CertificateId::EtcdHealthClient);
    let record = node.store.get::<Bootstrap>(Bootstrap::NAME).map(|bootstrap| bootstrap.record);
    let mut seen = Seen {
        volume_open: services::is_open(&node.store, Volume::Etcd),
        certificate: certificate.is_some(),
        founder: is_founder(node),
        data: data(&node.root.etcd_data()),
        own: None,
        found: Found::NobodyToAsk,
        health: BTreeMap::new(),
        told: node.store.all(),
        repair: EtcdRepair::current(&node.store),
        not_yet,
        machine,
        record,
    };
    let ready = services::is_ready(&node.store, ID);
    let Ok(machine) = seen.machine.clone() else { return seen };
    let Some(certificate) = certificate.filter(|_| machine.is_control_plane()) else { return seen };
    let own = Access { kept, ..access(&machine.config, &certificate) };
    if ready {
        seen.own = members::health(own, QUICK).await.ok();
    }
    let listed = match &seen.own {
        Some(health) if !health.learner => members::list(own).await.ok(),
        _ => None,
    };
    seen.found = match listed {
        Some(cluster) => Found::Cluster(cluster),
        None => {
            let known = others(node, &machine, &seen).await;
            ask_others(own, known).await
        }
    };
    if let Found::Cluster(cluster) = &seen.found {
        seen.health = health(own, &cluster.members, seen.own.clone()).await;
    }
    seen
}

/// Whether the others have removed this machine's member; none while they cannot be asked, for want of a certificate or an address.
pub async fn is_outdated(node: &Node, keyring: &mut Keyring) -> Option<bool> {
    let seen = observe(node, keyring, None).await;
    let record = seen.record.as_ref().filter(|_| seen.certificate && seen.machine.is_ok())?;
    Some(is_removed(&seen, record))
}

/// Whether the machine's own config brings the authorities' keys: what it got from others makes it no founder.
pub fn is_founder(node: &Node) -> bool {
    node.config().is_some_and(|applied| {
        let cluster = &applied.config.cluster;
        applied.config.machine.role == Role::ControlPlane && cluster.certificate_authorities.kubernetes.key.is_some()
    })
}

/// Long enough for one question.
const BRIEFLY: Duration = Duration::from_secs(600);

/// An etcd that answers on another control plane which the config names. It is asked with a certificate that is made for it: a cluster may
/// be asked for before the machine has its own.
pub async fn elsewhere(node: &Node) -> Option<String> {
    // The keys that it got from others are in it; a machine without a name or an address yet has at least its own.
    let config = Machine::observe(node).map(|machine| machine.config).ok().or_else(|| node.config().map(|applied| applied.config))?;
    let authority = &config.cluster.certificate_authorities.etcd_client;
    let issuer = Authority::from_pem(&authority.certificate, authority.key.as_ref()?.reveal()).ok()?;
    let certificate = issuer.issue(&pki::etcd_client(BRIEFLY), SystemTime::now()).ok()?;
    let own = node.store.get::<NodeIps>(NodeIps::NAME).map(|ips| ips.addresses).unwrap_or_default();
    let own = own.into_iter().chain(addresses::reachable(&node.store)).collect::<BTreeSet<IpAddr>>();
    let others = named(node, &config).await.0.into_iter().filter(|ip| !own.contains(ip) && !ip.is_loopback());
    match ask_all(access(&config, &certificate), others.map(|ip| SocketAddr::new(ip, ETCD_CLIENT_PORT)).collect()).await {
        Found::Cluster(cluster) => Some(cluster.server),
        Found::Several(servers) => servers.first().map(ToString::to_string),
        Found::NobodyToAsk | Found::Silence(_) => None,
    }
}

/// etcd makes its log only once it knows its cluster, and whole (etcd's server/etcdserver/bootstrap.go).
fn data(directory: &Path) -> Data {
    let holds = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    match (holds(&directory.join("member/wal")), holds(directory)) {
        (true, _) => Data::Kept,
        (false, true) => Data::Begun,
        (false, false) => Data::Nothing,
    }
}

/// The servers of other control planes: those that the config names, and those that were members when this machine last heard of them.
async fn others(node: &Node, machine: &Machine, seen: &Seen) -> Result<BTreeSet<SocketAddr>, Vec<String>> {
    let (named, mut troubles) = named(node, &machine.config).await;
    let peers = seen.record.iter().flat_map(|record| record.members.values().flatten().map(String::as_str));
    let told = seen.told.values().flat_map(|member| member.peer_urls.iter().map(String::as_str));
    let known = peers.chain(told).filter_map(|url| match HostPort::of_https(url).ok()?.host {
        machine::config::Host::Address(ip) => Some(ip),
        machine::config::Host::Name(_) => None,
    });
    let ips: BTreeSet<IpAddr> = named.into_iter().chain(known).filter(|ip| !machine.facts.node_ips.contains(ip)).collect();
    if ips.is_empty() && !troubles.is_empty() {
        return Err(std::mem::take(&mut troubles));
    }
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, ETCD_CLIENT_PORT)).collect())
}

/// The addresses that the config's control planes have, and what went wrong with looking them up.
async fn named(node: &Node, config: &Config) -> (BTreeSet<IpAddr>, Vec<String>) {
    let (mut ips, mut troubles) = (BTreeSet::new(), Vec::new());
    for agent in config.cluster.control_planes.iter().filter_map(|agent| agent.parse::<HostPort>().ok()) {
        match names::addresses(node, &agent.host.to_string()).await {
            Ok(found) => ips.extend(found),
            Err(error) => troubles.push(format!("{error:#}")),
        }
    }
    (ips, troubles)
}

async fn ask_others(access: Access<'_>, servers: Result<BTreeSet<SocketAddr>, Vec<String>>) -> Found {
    match servers {
        Err(troubles) => Found::Silence(troubles),
        Ok(servers) if servers.is_empty() => Found::NobodyToAsk,
        Ok(servers) => ask_all(access, servers).await,
    }
}

/// All at once: what one of them says is what the cluster agreed on.
async fn ask_all(access: Access<'_>, servers: BTreeSet<SocketAddr>) -> Found {
    let asked = servers.into_iter().map(async |server| {
        let url = format!("https://{server}");
        let listed = members::list(Access { server: &url, ..access }).await;
        (server, listed)
    });
    let (mut troubles, mut clusters): (Vec<String>, Vec<(SocketAddr, Cluster)>) = Default::default();
    for (server, listed) in join_all(asked).await {
        match listed {
            Ok(cluster) => clusters.push((server, cluster)),
            Err(error) => troubles.push(format!("{server}: {}", error.root_cause())),
        }
    }
    match clusters.first() {
        None => Found::Silence(troubles),
        Some((_, first)) if clusters.iter().any(|(_, other)| other.id != first.id) => {
            Found::Several(clusters.into_iter().map(|(server, _)| server).collect())
        }
        Some((_, cluster)) => Found::Cluster(cluster.clone()),
    }
}

/// How those are that have started; of its own this machine knows.
async fn health(access: Access<'_>, members: &[Member], own: Option<Health>) -> BTreeMap<MemberId, Result<Health, String>> {
    let asked = members.iter().filter(|member| member.has_started()).map(async |member| {
        if let Some(own) = own.clone().filter(|own| own.member == member.id.0) {
            return (member.id, Ok(own));
        }
        let server = member.client_urls.first().cloned().unwrap_or_default();
        let health = members::health(Access { server: &server, ..access }, QUICK).await;
        (member.id, health.map_err(|error| format!("{}", error.root_cause())))
    });
    join_all(asked).await.into_iter().collect()
}
