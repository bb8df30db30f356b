//! kube-controller-manager: its flags, files and service. Start it once the API server is ready: before, it ends with "forbidden".

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use machine::account::Account;
use machine::config::{Cni, Config};
use machine::service::{Readiness, Resources};

use crate::credentials::Credentials;
use crate::facts::Facts;
use crate::flags::{self, Flags, emulation, flags, merge};
use crate::kubeconfig;
use crate::pki::{self, AuthorityId, CertificateId};
use crate::ports::CONTROLLER_MANAGER_PORT;
use crate::render::{Files, Read, RenderError, Rendered, text};
use crate::service::{API_SERVER, CIPHER_SUITES, CONTROLLER_MANAGER, MIB, control_plane_service, service_id};

pub fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError> {
    let account = Account::KubeControllerManager;
    let mut files = Files::new(&facts.root, CONTROLLER_MANAGER, account);
    let mut ours = behaviour(config);
    ours.extend(identity(&mut files, config, credentials)?);
    ours.extend(signing(&mut files, config, credentials));
    ours.extend(emulation(facts));
    let merged = merge(ours, &config.cluster.controller_manager.extra_args, &[]);

    let mut service = control_plane_service(&facts.root, CONTROLLER_MANAGER, account, flags::arguments(&merged));
    service.resources = Resources { cpu_weight: Some(200), memory_min_bytes: Some(96 * MIB), ..service.resources };
    service.after = vec![service_id(API_SERVER)];
    service.readiness = Readiness::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), CONTROLLER_MANAGER_PORT));
    Ok(files.into_rendered(service))
}

fn identity(files: &mut Files, config: &Config, credentials: &Credentials) -> Result<Flags, RenderError> {
    let authorities = &config.cluster.certificate_authorities;
    let kubeconfig = text(&kubeconfig::add_local(files, config, credentials, CertificateId::ControllerManager)?);
    let root = files.add("ca.crt", AuthorityId::Kubernetes.of(authorities).certificate.as_str(), Read::AtStart);
    let front_proxy = files.add("front-proxy-ca.crt", AuthorityId::FrontProxy.of(authorities).certificate.as_str(), Read::Again);
    let service_account = files.add_secret("service-account.key", credentials.service_account_key()?, Read::AtStart);
    Ok(flags([
        ("authentication-kubeconfig", kubeconfig.clone()),
        ("authorization-kubeconfig", kubeconfig.clone()),
        ("client-ca-file", text(&root)),
        ("kubeconfig", kubeconfig),
        ("requestheader-client-ca-file", text(&front_proxy)),
        ("root-ca-file", text(&root)),
        ("service-account-private-key-file", text(&service_account)),
    ]))
}

fn behaviour(config: &Config) -> Flags {
    let network = &config.cluster.network;
    let list = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut ours = flags([
        ("bind-address", Ipv4Addr::LOCALHOST.to_string()),
        ("controllers", "*,bootstrapsigner,tokencleaner".to_owned()),
        // It asks for each controller's account and token before any starts; upstream's 20 requests a second would make that 5 seconds.
        ("kube-api-burst", "200".to_owned()),
        ("kube-api-qps", "100".to_owned()),
        ("profiling", "false".to_owned()),
        ("secure-port", CONTROLLER_MANAGER_PORT.to_string()),
        ("service-cluster-ip-range", list(&network.service_cidrs)),
        ("tls-cipher-suites", CIPHER_SUITES.to_owned()),
        ("tls-min-version", "VersionTLS12".to_owned()),
        ("use-service-account-credentials", "true".to_owned()),
    ]);
    match network.cni {
        Cni::Overlay => ours.extend(node_networks(config)),
        // Whoever connects the pods hands out their networks as well.
        Cni::None => ours.extend(flags([("allocate-node-cidrs", "false".to_owned())])),
    }
    ours
}

/// The single-family flag and the two dual-stack flags exclude each other.
fn node_networks(config: &Config) -> Flags {
    let network = &config.cluster.network;
    let sizes = &network.node_cidr_mask_sizes;
    let cidrs: Vec<String> = network.pod_cidrs.iter().map(ToString::to_string).collect();
    let has = |v6: bool| network.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv6() == v6);
    let mut ours = flags([("allocate-node-cidrs", "true".to_owned()), ("cluster-cidr", cidrs.join(","))]);
    match (has(false), has(true)) {
        (true, true) => {
            ours.extend(flags([("node-cidr-mask-size-ipv4", sizes.ipv4.to_string()), ("node-cidr-mask-size-ipv6", sizes.ipv6.to_string())]))
        }
        (false, true) => ours.extend(flags([("node-cidr-mask-size", sizes.ipv6.to_string())])),
        (_, false) => ours.extend(flags([("node-cidr-mask-size", sizes.ipv4.to_string())])),
    }
    ours
}

/// One authority per signer. Without the authorities' keys (a further control plane that has not received them) it signs nothing, and
/// another control plane does.
fn signing(files: &mut Files, config: &Config, credentials: &Credentials) -> Flags {
    let mut ours = Flags::new();
    let signers = [
        (AuthorityId::Kubernetes, ["kube-apiserver-client", "kubelet-client", "legacy-unknown"].as_slice()),
        (AuthorityId::Kubelet, ["kubelet-serving"].as_slice()),
    ];
    for (id, names) in signers {
        let Some(key) = credentials.authority_keys.get(&id) else { continue };
        // It takes one certificate, that of the key; what the key's authority is followed by is trusted elsewhere.
        let certificate = pki::signer(&id.of(&config.cluster.certificate_authorities).certificate, key.reveal());
        let certificate = files.add(&format!("signing-{id}.crt"), certificate, Read::Again);
        let key = files.add_secret(&format!("signing-{id}.key"), key, Read::Again);
        for name in names {
            ours.insert(format!("cluster-signing-{name}-cert-file"), text(&certificate));
            ours.insert(format!("cluster-signing-{name}-key-file"), text(&key));
        }
    }
    ours
}
