//! Keys and certificates: authorities, what they issue, what is in a certificate, and the table of all that a machine needs.
//!
//! Keys are ECDSA P-256, in PKCS#8 PEM. Where they are stored and when they are renewed is the agent's business.

mod authority;
mod certificate;
mod clients;
mod request;
mod signing;
mod succession;
mod table;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Issued, public_key_pem, self_signed};
pub use certificate::{Certificate, certificate_pem, fingerprint, renewal_due, renewal_time, verify_chain};
pub use clients::{MachineRole, etcd_client, kubernetes_admin, load_balancer, machine_client, reliever, super_user};
pub use request::{CONTROL_PLANE_NAME, CertificateRequest, San, Usage};
pub use signing::{SigningRequest, Unsigned, key_id, new_key, public_key, signing_request, signing_request_for};
pub use succession::{each, issuing, next_name, signer, succeeds};
pub use table::{
    AGENT_USER_PREFIX, AuthorityId, CertificateId, CertificateSpec, FRONT_PROXY_CLIENT, NODE_USER_PREFIX, NODES, agent_user, certificates,
    node_user, request_for,
};

/// How long before the moment of issue a certificate is valid: clocks of other machines may be behind.
pub const BACKDATE: std::time::Duration = std::time::Duration::from_secs(3600);

/// What an authority issues is valid from this long before now, at the earliest from the authority's own beginning: a machine whose clock is
/// days ahead when it makes its certificates is not locked out, neither while the clock is wrong nor once it is put right.
pub const LEAF_BACKDATE: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("reading the {what}: expected one PEM block of it")]
    Parse { what: &'static str },
    #[error("certificate {subject:?} is no authority")]
    NotAnAuthority { subject: String },
    #[error("the key does not belong to the certificate of authority {subject:?}")]
    KeyMismatch { subject: String },
    #[error("certificate for {subject:?}: name {name:?} is neither an IP address nor ASCII text")]
    BadName { subject: String, name: String },
    #[error("certificate for {subject:?}: its time of validity cannot be written as a date")]
    BadTime { subject: String },
    #[error("certificate for {subject:?}: authority {authority:?} has expired")]
    AuthorityExpired { subject: String, authority: String },
    #[error("certificate {subject:?} is not signed by authority {authority:?}")]
    NotSignedBy { subject: String, authority: String },
    #[error("certificate {subject:?} is not valid now: it is valid from {not_before} to {not_after} (seconds since 1970)")]
    NotValidNow { subject: String, not_before: u64, not_after: u64 },
    #[error("taking random bytes from the system: {0}")]
    Random(getrandom::Error),
    #[error("signing")]
    Sign(#[source] rcgen::Error),
}
