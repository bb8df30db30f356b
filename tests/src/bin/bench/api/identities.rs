//! The certificates of both servers and of the client: one authority, the same keys, so that TLS costs both the same.

use std::time::{Duration, SystemTime};

use controlplane::pki::{Authority, CertificateRequest, Issued, MachineRole, San, Usage, machine_client};

const LIFETIME: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
pub struct Identities {
    pub authority_pem: String,
    pub server: Issued,
    pub client: Issued,
}

impl Identities {
    /// With a client of this role.
    pub fn generate(role: MachineRole) -> anyhow::Result<Identities> {
        let now = SystemTime::now();
        let authority = Authority::generate("bench", now, LIFETIME)?;
        let server = CertificateRequest {
            common_name: "bench".to_owned(),
            organization: None,
            sans: San::loopback(),
            usage: Usage::Both,
            lifetime: LIFETIME,
        };
        Ok(Identities {
            server: authority.issue(&server, now)?,
            client: authority.issue(&machine_client(role, "bench", LIFETIME), now)?,
            authority_pem: authority.certificate_pem().to_owned(),
        })
    }
}
