//! The certificates that a machine is given, each for the key of its request; what they say follows from what was granted.

use std::time::SystemTime;

use anyhow::Context;
use controlplane::Facts;
use controlplane::pki::{Authority, CertificateId, request_for};
use machine::Root;
use machine::config::{Config, Role};

use super::decide::MachineRecord;
use crate::refusal::Refusal;

/// What others issue; all else a machine of the role has issued by itself, or by the cluster.
pub fn issued_by_others(role: Role) -> &'static [CertificateId] {
    match role {
        Role::ControlPlane => &[CertificateId::Machine],
        Role::Worker => &[CertificateId::Machine, CertificateId::Agent, CertificateId::KubeProxy],
    }
}

/// One certificate in PEM for each request, in their order.
pub fn issue(
    config: &Config,
    machine: &MachineRecord,
    requests: &[(CertificateId, String)],
    now: SystemTime,
) -> Result<Vec<String>, Refusal> {
    let facts = Facts { root: Root::new("/"), node_name: machine.node.clone(), node_ips: machine.addresses.clone(), emulated: None };
    let issue = |(id, request): &(CertificateId, String)| {
        let authority = id.authority().of(&config.cluster.certificate_authorities);
        let key = authority.key.as_ref().with_context(|| format!("the key of authority {} is not here", id.authority()))?;
        let issuer = Authority::from_pem(&authority.certificate, key.reveal()).context("cluster.certificateAuthorities")?;
        let certificate = issuer.issue_for(request, &request_for(*id, machine.role, config, &facts), now);
        Ok(certificate.with_context(|| format!("issuing certificate {id} for {}", machine.node))?)
    };
    requests.iter().map(issue).collect()
}
