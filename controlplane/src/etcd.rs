//! etcd's configuration file and service.
//!
//! TLS 1.3 with client certificates everywhere; clients and peers trust two different authorities. etcd reads its certificates again at
//! each handshake.

mod join;
mod member;
pub mod quorum;
pub mod sealed;
pub mod snapshot;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use machine::account::Account;
use machine::config::Config;
use machine::service::{Filesystem, Readiness, Resources, Stop, StopScope};
use serde_json::{Map, Value, json};

use crate::credentials::Credentials;
use crate::facts::Facts;
use crate::pki::{AuthorityId, CertificateId};
use crate::ports::{ETCD_CLIENT_PORT, ETCD_METRICS_PORT, ETCD_PEER_PORT};
use crate::render::{Files, Read, RenderError, Rendered, text};
use crate::service::{ETCD, MIB, control_plane_service};

pub use join::{Entry, Joiner, Obstacle, enter};
pub use member::{Member, MemberId};

/// A database of this size still fits a second time, with journal and snapshots, on the 10 GiB ETCD volume: defragmenting copies it.
const QUOTA_BYTES: u64 = 4096 * MIB;

/// Fields that etcd's file has in nanoseconds, though its flags take durations (embed.Config says why).
const DURATIONS: &[&str] = &[
    "backend-batch-interval",
    "compact-hash-check-time",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "downgrade-check-time",
    "grpc-keepalive-interval",
    "grpc-keepalive-min-time",
    "grpc-keepalive-timeout",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// Fields that etcd's file has as lists, though its flags take commas.
const LISTS: &[&str] = &["cipher-suites", "log-outputs"];

/// The members that this one starts with. etcd looks at it only while its data directory is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub state: ClusterState,
    /// Peer URLs by member name, this one's among them.
    pub members: BTreeMap<String, Vec<String>>,
    /// Of a new cluster: from it, its name and its members etcd makes its identity. None: the cluster's name will do.
    pub token: Option<String>,
    /// No other machine is to reach it.
    pub isolated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// Bootstrap: once per cluster.
    New,
    /// Join.
    Existing,
    /// A cluster of this member alone, out of the data that it has: the others are forgotten.
    Forced,
}

impl Membership {
    /// A new cluster with this machine as its only member.
    pub fn bootstrap(facts: &Facts) -> Result<Membership, RenderError> {
        let members = BTreeMap::from([(facts.node_name.clone(), vec![peer_url(facts)?])]);
        Ok(Membership { state: ClusterState::New, members, token: None, isolated: false })
    }

    /// A cluster that is there, with the members that it has, this machine among them.
    pub fn join(members: BTreeMap<String, Vec<String>>) -> Membership {
        Membership { state: ClusterState::Existing, members, token: None, isolated: false }
    }
}

/// Where other members reach this one.
pub fn peer_url(facts: &Facts) -> Result<String, RenderError> {
    Ok(url(node_ip(facts)?, ETCD_PEER_PORT))
}

/// What etcd is asked for at [`health_server`].
pub const HEALTH_PATH: &str = "/health";

/// Where etcd is asked for its health and metrics, with the certificate [`CertificateId::EtcdHealthClient`].
pub fn health_server() -> String {
    url(Ipv4Addr::LOCALHOST.into(), ETCD_METRICS_PORT)
}

pub fn render(config: &Config, facts: &Facts, credentials: &Credentials, membership: &Membership) -> Result<Rendered, RenderError> {
    let mut files = Files::new(&facts.root, ETCD, Account::Etcd);
    let authorities = &config.cluster.certificate_authorities;
    let client = transport_security(
        &mut files,
        "client",
        &AuthorityId::EtcdClient.of(authorities).certificate,
        credentials,
        CertificateId::EtcdServer,
    )?;
    let peer =
        transport_security(&mut files, "peer", &AuthorityId::EtcdPeer.of(authorities).certificate, credentials, CertificateId::EtcdPeer)?;

    let mut file = settings(config, facts, membership)?;
    file.insert("client-transport-security".to_owned(), client);
    file.insert("peer-transport-security".to_owned(), peer);
    if membership.state == ClusterState::Forced {
        file.insert("force-new-cluster".to_owned(), json!(true));
    }
    merge(&mut file, &config.cluster.etcd.extra_args)?;
    let yaml = crate::yaml::to_string(&file).map_err(|source| RenderError::Yaml { what: "etcd's configuration", source: source.into() })?;
    let path = files.add("etcd.yaml", yaml, Read::AtStart);

    let mut service = control_plane_service(&facts.root, ETCD, Account::Etcd, vec![format!("--config-file={}", text(&path))]);
    service.filesystem = Filesystem::ReadOnly { writable: vec![facts.root.etcd_data()] };
    service.resources = Resources { cpu_weight: Some(800), memory_min_bytes: Some(96 * MIB), ..service.resources };
    service.oom_score_adjust = -950;
    service.readiness = Readiness::Notify;
    service.stop = Stop { deadline: Duration::from_secs(20), whole: StopScope::Cgroup };
    Ok(files.into_rendered(service))
}

fn settings(config: &Config, facts: &Facts, membership: &Membership) -> Result<Map<String, Value>, RenderError> {
    let local = url(Ipv4Addr::LOCALHOST.into(), ETCD_CLIENT_PORT);
    let advertised: Vec<String> = facts.node_ips.iter().map(|address| url(*address, ETCD_CLIENT_PORT)).collect();
    let reachable = advertised.iter().filter(|_| !membership.isolated).cloned();
    let listen: Vec<String> = std::iter::once(local).chain(reachable).collect();
    let peer = peer_url(facts)?;
    let listen_peer = if membership.isolated { url(Ipv4Addr::LOCALHOST.into(), ETCD_PEER_PORT) } else { peer.clone() };
    let pairs = membership.members.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    let state = match membership.state {
        ClusterState::New | ClusterState::Forced => "new",
        ClusterState::Existing => "existing",
    };
    Ok(fields([
        ("name", json!(facts.node_name)),
        ("data-dir", json!(text(&facts.root.etcd_data()))),
        ("initial-cluster", json!(pairs.collect::<Vec<_>>().join(","))),
        ("initial-cluster-state", json!(state)),
        ("initial-cluster-token", json!(membership.token.as_ref().unwrap_or(&config.cluster.name))),
        ("listen-client-urls", json!(listen.join(","))),
        ("advertise-client-urls", json!(advertised.join(","))),
        ("listen-peer-urls", json!(listen_peer)),
        ("initial-advertise-peer-urls", json!(peer)),
        ("listen-client-http-urls", json!(health_server())),
        ("tls-min-version", json!("TLS1.3")),
        ("quota-backend-bytes", json!(QUOTA_BYTES)),
        ("auto-compaction-mode", json!("periodic")),
        ("auto-compaction-retention", json!("1h")),
        ("enable-grpc-gateway", json!(false)),
        ("logger", json!("zap")),
        ("log-outputs", json!(["stderr"])),
    ]))
}

fn fields<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// One side's security block; its files are `<side>.crt`, `<side>.key` and `<side>-ca.crt`.
fn transport_security(
    files: &mut Files,
    side: &str,
    authority: &str,
    credentials: &Credentials,
    id: CertificateId,
) -> Result<Value, RenderError> {
    let (certificate, key) = files.add_issued(side, credentials.certificate(id)?);
    let authority = files.add(&format!("{side}-ca.crt"), authority, Read::AtStart);
    Ok(json!({
        "cert-file": text(&certificate),
        "key-file": text(&key),
        "trusted-ca-file": text(&authority),
        "client-cert-auth": true,
    }))
}

fn merge(file: &mut Map<String, Value>, users: &BTreeMap<String, String>) -> Result<(), RenderError> {
    for (flag, value) in users {
        file.insert(flag.clone(), scalar(flag, value)?);
    }
    Ok(())
}

/// etcd's file is typed, the machine config's arguments are text.
fn scalar(flag: &str, text: &str) -> Result<Value, RenderError> {
    if DURATIONS.contains(&flag) {
        let bad = |_| RenderError::BadDuration { flag: flag.to_owned(), value: text.to_owned() };
        let duration = machine::config::Duration::from_str(text).map_err(bad)?;
        return Ok(json!(duration.0.as_nanos() as u64));
    }
    if LISTS.contains(&flag) {
        return Ok(json!(text.split(',').collect::<Vec<_>>()));
    }
    Ok(match (text.parse::<u64>(), text.parse::<bool>()) {
        (Ok(number), _) => json!(number),
        (_, Ok(boolean)) => json!(boolean),
        _ => json!(text),
    })
}

fn node_ip(facts: &Facts) -> Result<IpAddr, RenderError> {
    facts.node_ips.first().copied().ok_or(RenderError::MissingNodeIp)
}

fn url(address: IpAddr, port: u16) -> String {
    format!("https://{}", SocketAddr::new(address, port))
}
