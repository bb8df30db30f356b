//! kube-apiserver's flags.

use std::net::IpAddr;

use machine::config::Config;

use super::files::Paths;
use crate::endpoint::{API_SERVER_PORT, ETCD_CLIENT_PORT};
use crate::facts::Facts;
use crate::flags::{Flags, Owned, Rules, flags, merge};
use crate::pki::FRONT_PROXY_CLIENT;
use crate::render::{RenderError, text};
use crate::service::CIPHER_SUITES;

const FROM_PKI: &str = "it is made from cluster.certificateAuthorities";
const ETCD: &str = "the machine runs etcd and knows where it is";

/// What `cluster.apiServer.extraArgs` may not say.
pub const OWNED: &[Owned] = &[
    ("advertise-address", "it is the node's address; see machine.kubelet.nodeIP"),
    ("anonymous-auth", "anonymous requests reach the health checks only, by the authentication configuration"),
    ("audit-policy-file", "set cluster.apiServer.auditPolicy"),
    ("authentication-config", "the machine writes it"),
    ("client-ca-file", FROM_PKI),
    ("encryption-provider-config", "it is made from cluster.encryptionKey"),
    ("etcd-cafile", ETCD),
    ("etcd-certfile", ETCD),
    ("etcd-keyfile", ETCD),
    ("etcd-servers", ETCD),
    ("insecure-bind-address", "there is no insecure port"),
    ("insecure-port", "there is no insecure port"),
    ("kubelet-certificate-authority", FROM_PKI),
    ("kubelet-client-certificate", FROM_PKI),
    ("kubelet-client-key", FROM_PKI),
    ("proxy-client-cert-file", FROM_PKI),
    ("proxy-client-key-file", FROM_PKI),
    ("requestheader-client-ca-file", FROM_PKI),
    ("secure-port", "balancers, the kubelet and kubeconfigs count on it"),
    ("service-account-issuer", "it is made from cluster.network.dnsDomain; tokens of another would not be taken"),
    ("service-account-key-file", "it is made from cluster.serviceAccountKey"),
    ("service-account-signing-key-file", "it is made from cluster.serviceAccountKey"),
    ("service-cluster-ip-range", "set cluster.network.serviceCIDRs"),
    ("tls-cert-file", FROM_PKI),
    ("tls-private-key-file", FROM_PKI),
    ("token-auth-file", "static tokens never expire and are no identity"),
];

const RULES: Rules = Rules {
    field: "cluster.apiServer.extraArgs",
    owned: OWNED,
    lists: &["enable-admission-plugins", "authorization-mode"],
};

pub(super) fn all(config: &Config, facts: &Facts, paths: &Paths) -> Result<Flags, RenderError> {
    let mut ours = identity(paths);
    ours.extend(behaviour(config, facts, paths)?);
    Ok(merge(ours, &config.cluster.api_server.extra_args, &RULES)?)
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
