//! The servers of a machine that show certificates of the cluster's authorities, or take clients by them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use controlplane::pki::{AuthorityId, CertificateId};
use controlplane::ports::{API_SERVER_PORT, CONTROLLER_MANAGER_PORT, ETCD_CLIENT_PORT, ETCD_PEER_PORT, SCHEDULER_PORT};
use x509_parser::pem::Pem;

use crate::controllers::kubelet;
use crate::controllers::machine::Machine;

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// As init calls it, or the machine API.
    pub service: &'static str,
    pub address: SocketAddr,
    /// Whose clients it takes.
    pub clients: &'static [AuthorityId],
    /// The authority of its certificate, and which one it is; none for a certificate that it made itself.
    pub serves: Option<(AuthorityId, CertificateId)>,
}

pub fn listeners(machine: &Machine) -> Vec<Listener> {
    use AuthorityId as A;
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let own = machine.facts.node_ips.first().copied().unwrap_or(loopback);
    let shows = |id: CertificateId| Some((id.authority(), id));
    let listener = |service, address, port, clients, serves| Listener { service, address: SocketAddr::new(address, port), clients, serves };
    let mut all = vec![
        listener("machine API", loopback, api::PORT, &[A::Machine][..], shows(CertificateId::Machine)),
        listener("kubelet", own, kubelet::PORT, &[A::Kubernetes], shows(CertificateId::KubeletServer)),
    ];
    if machine.is_control_plane() {
        all.extend([
            listener("etcd", loopback, ETCD_CLIENT_PORT, &[A::EtcdClient], shows(CertificateId::EtcdServer)),
            listener("etcd", own, ETCD_PEER_PORT, &[A::EtcdPeer], shows(CertificateId::EtcdPeer)),
            listener("kube-apiserver", loopback, API_SERVER_PORT, &[A::Kubernetes, A::FrontProxy], shows(CertificateId::ApiServer)),
            listener("kube-controller-manager", loopback, CONTROLLER_MANAGER_PORT, &[A::Kubernetes, A::FrontProxy], None),
            listener("kube-scheduler", loopback, SCHEDULER_PORT, &[A::Kubernetes, A::FrontProxy], None),
        ]);
    }
    all
}

/// Subjects of certificates in PEM, as handshakes name authorities: DER.
pub fn subjects(certificates_pem: &str) -> BTreeSet<Vec<u8>> {
    let blocks = Pem::iter_from_buffer(certificates_pem.as_bytes()).filter_map(Result::ok);
    blocks.filter_map(|block| Some(block.parse_x509().ok()?.subject().as_raw().to_vec())).collect()
}
