//! kube-scheduler: its flags, configuration and service.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use machine::account::Account;
use machine::config::Config;
use machine::service::{Readiness, Resources};
use serde_json::{Map, Value, json};

use crate::credentials::Credentials;
use crate::facts::Facts;
use crate::flags::{self, emulation, flags, merge};
use crate::kubeconfig;
use crate::pki::{AuthorityId, CertificateId};
use crate::ports::{SCHEDULER_PORT, SCORES_PORT};
use crate::render::{Files, Read, RenderError, Rendered, text};
use crate::service::{API_SERVER, CIPHER_SUITES, MIB, SCHEDULER, control_plane_service, service_id};

pub fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError> {
    let mut files = Files::new(&facts.root, SCHEDULER, Account::KubeScheduler);
    let authorities = &config.cluster.certificate_authorities;
    let kubeconfig = text(&kubeconfig::add_local(&mut files, config, credentials, CertificateId::Scheduler)?);
    let client_authority = files.add("client-ca.crt", AuthorityId::Kubernetes.of(authorities).certificate.as_str(), Read::Again);
    let front_proxy = files.add("front-proxy-ca.crt", AuthorityId::FrontProxy.of(authorities).certificate.as_str(), Read::Again);
    let yaml = crate::yaml::to_string(&configuration(config, &kubeconfig))
        .map_err(|source| RenderError::Yaml { what: "the scheduler's configuration", source: source.into() })?;
    let path = files.add("config.yaml", yaml, Read::AtStart);
    let mut ours = flags([
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig),
        ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
        ("client-ca-file", text(&client_authority)),
        ("config", text(&path)),
        ("requestheader-client-ca-file", text(&front_proxy)),
        ("secure-port", SCHEDULER_PORT.to_string()),
        ("tls-cipher-suites", CIPHER_SUITES.to_owned()),
        ("tls-min-version", "VersionTLS12".to_owned()),
    ]);
    ours.extend(emulation(facts));
    let merged = merge(ours, &config.cluster.scheduler.extra_args, &[]);

    let mut service = control_plane_service(&facts.root, SCHEDULER, Account::KubeScheduler, flags::arguments(&merged));
    service.resources = Resources { cpu_weight: Some(200), memory_min_bytes: Some(48 * MIB), ..service.resources };
    service.after = vec![service_id(API_SERVER)];
    service.readiness = Readiness::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), SCHEDULER_PORT));
    Ok(files.into_rendered(service))
}

/// The user's KubeSchedulerConfiguration with what is ours in it.
fn configuration(config: &Config, kubeconfig: &str) -> Map<String, Value> {
    let mut file = Map::new();
    file.insert("apiVersion".to_owned(), json!("kubescheduler.config.k8s.io/v1"));
    file.insert("kind".to_owned(), json!("KubeSchedulerConfiguration"));
    file.insert("enableProfiling".to_owned(), json!(false));
    file.extend(config.cluster.scheduler.config.clone());
    let mut connection = match file.remove("clientConnection") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    connection.insert("kubeconfig".to_owned(), json!(kubeconfig));
    file.insert("clientConnection".to_owned(), Value::Object(connection));
    if config.cluster.scheduler.pressure.weight > 0 {
        let mut extenders = match file.remove("extenders") {
            Some(Value::Array(extenders)) => extenders,
            _ => Vec::new(),
        };
        extenders.push(pressure(config.cluster.scheduler.pressure.weight));
        file.insert("extenders".to_owned(), Value::Array(extenders));
    }
    file
}

/// The agent's scores. It is asked by name of nodes only: without `nodeCacheCapable` each question would carry every Node whole, and the
/// scheduler's own rules would take all nodes for empty (kubernetes/kubernetes #141781). Without its answer scheduling goes on.
fn pressure(weight: u32) -> Value {
    json!({
        "urlPrefix": format!("http://127.0.0.1:{SCORES_PORT}"),
        "prioritizeVerb": "prioritize",
        "weight": weight,
        "nodeCacheCapable": true,
        "ignorable": true,
        "httpTimeout": "100ms",
    })
}
