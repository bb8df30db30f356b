//! kube-apiserver's flags.

use std::net::IpAddr;

use machine::config::Config;

use super::files::Paths;
use crate::facts::Facts;
use crate::flags::{Flags, emulation, flags, merge};
use crate::pki::FRONT_PROXY_CLIENT;
use crate::ports::{API_SERVER_PORT, ETCD_CLIENT_PORT};
use crate::render::{RenderError, text};
use crate::service::CIPHER_SUITES;

/// Lists in which ours stay: without NodeRestriction a kubelet could change any Node.
const LISTS: &[&str] = &["authorization-mode", "enable-admission-plugins"];

pub(super) fn all(config: &Config, facts: &Facts, paths: &Paths) -> Result<Flags, RenderError> {
    let mut ours = identity(paths);
    ours.extend(behaviour(config, facts, paths)?);
    ours.extend(emulation(facts));
    Ok(merge(ours, &config.cluster.api_server.extra_args, LISTS))
}

/// Who it is, and whom it believes.
fn identity(paths: &Paths) -> Flags {
    flags([
        ("authentication-config", text(&paths.authentication)),
        ("client-ca-file", text(&paths.client_authority)),
        ("encryption-provider-config", text(&paths.encryption)),
        ("encryption-provider-config-automatic-reload", "true".to_owned()),
        ("etcd-cafile", text(&paths.etcd_authority)),
        ("etcd-certfile", text(&paths.etcd.0)),
        ("etcd-keyfile", text(&paths.etcd.1)),
        ("kubelet-certificate-authority", text(&paths.kubelet_authority)),
        ("kubelet-client-certificate", text(&paths.kubelet.0)),
        ("kubelet-client-key", text(&paths.kubelet.1)),
        ("proxy-client-cert-file", text(&paths.front_proxy.0)),
        ("proxy-client-key-file", text(&paths.front_proxy.1)),
        ("requestheader-allowed-names", FRONT_PROXY_CLIENT.to_owned()),
        ("requestheader-client-ca-file", text(&paths.front_proxy_authority)),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("service-account-key-file", text(&paths.service_account_public)),
        ("service-account-signing-key-file", text(&paths.service_account)),
        ("tls-cert-file", text(&paths.serving.0)),
        ("tls-private-key-file", text(&paths.serving.1)),
    ])
}

/// What it does. The audit log's figures are those that the CIS benchmark asks for.
fn behaviour(config: &Config, facts: &Facts, paths: &Paths) -> Result<Flags, RenderError> {
    let network = &config.cluster.network;
    let advertised = *facts.node_ips.first().ok_or(RenderError::MissingNodeIp)?;
    let services: Vec<String> = network.service_cidrs.iter().map(ToString::to_string).collect();
    Ok(flags([
        ("advertise-address", advertised.to_string()),
        ("allow-privileged", "true".to_owned()),
        ("audit-log-maxage", "30".to_owned()),
        ("audit-log-maxbackup", "10".to_owned()),
        ("audit-log-maxsize", "100".to_owned()),
        ("audit-log-path", text(&facts.root.audit_log_directory().join("audit.log"))),
        ("audit-policy-file", text(&paths.audit_policy)),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("bind-address", any_address(advertised).to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("enable-aggregator-routing", "true".to_owned()),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        ("etcd-servers", format!("https://127.0.0.1:{ETCD_CLIENT_PORT}")),
        ("kubelet-preferred-address-types", "InternalIP,Hostname,ExternalIP".to_owned()),
        ("profiling", "false".to_owned()),
        ("secure-port", API_SERVER_PORT.to_string()),
        ("service-account-issuer", format!("https://kubernetes.default.svc.{}", network.dns_domain)),
        ("service-cluster-ip-range", services.join(",")),
        ("tls-cipher-suites", CIPHER_SUITES.to_owned()),
        ("tls-min-version", "VersionTLS12".to_owned()),
    ]))
}

/// `::` takes IPv4 as well, but it is not there where the kernel has IPv6 off.
fn any_address(advertised: IpAddr) -> &'static str {
    if advertised.is_ipv6() { "::" } else { "0.0.0.0" }
}
