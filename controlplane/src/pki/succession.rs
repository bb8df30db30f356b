//! Authorities that follow one another. While one takes the other's place, both certificates stand in the config: what any of them signed is
//! trusted, and the first one is that which issues.

use machine::config::CertificateAuthority;
use rcgen::{KeyPair, PublicKeyData};

use super::{Certificate, PkiError};

const END: &str = "-----END CERTIFICATE-----";

/// The certificate that issues, in PEM: the first one.
pub fn issuing(certificates_pem: &str) -> &str {
    certificates_pem.find(END).map_or(certificates_pem, |at| &certificates_pem[..at + END.len()])
}

/// Each certificate of a PEM text by itself, in their order.
pub fn each(certificates_pem: &str) -> impl Iterator<Item = &str> {
    let mut rest = certificates_pem;
    std::iter::from_fn(move || {
        let one = issuing(rest);
        rest = &rest[one.len()..];
        one.contains(END).then_some(one)
    })
}

/// The certificate that a key belongs to, in PEM; where that cannot be told, the whole text.
pub fn signer<'a>(certificates_pem: &'a str, key_pem: &str) -> &'a str {
    each(certificates_pem).find(|one| belongs(one, key_pem).unwrap_or(false)).unwrap_or(certificates_pem)
}

/// Whether a newer authority is to issue than the one whose key is there: it has to be got first.
pub fn succeeds(authority: &CertificateAuthority) -> bool {
    let several = each(&authority.certificate).nth(1).is_some();
    let held = authority.key.as_ref().map(|key| belongs(issuing(&authority.certificate), key.reveal()));
    several && matches!(held, Some(Ok(false)))
}

fn belongs(certificate_pem: &str, key_pem: &str) -> Result<bool, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(|_| PkiError::Parse { what: "authority's key" })?;
    Ok(Certificate::inspect(certificate_pem)?.public_key == key.subject_public_key_info())
}

/// What to call the authority that follows: subjects tell authorities apart, in handshakes as for people. `Kubernetes`, `Kubernetes 2`, ...
pub fn next_name(name: &str) -> String {
    let numbered = name.rsplit_once(' ').and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)));
    let (name, number) = numbered.unwrap_or((name, 1));
    format!("{name} {}", number + 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Authority;
    use super::*;

    fn authority(name: &str) -> Authority {
        Authority::generate(name, SystemTime::now(), Duration::from_secs(3600)).expect("made")
    }

    #[test]
    fn the_first_certificate_issues_and_keys_find_theirs() {
        let (old, new, foreign) = (authority("Kubernetes"), authority("Kubernetes 2"), authority("Kubernetes 3"));
        let both = format!("{}{}", new.certificate_pem(), old.certificate_pem());
        assert_eq!(issuing(&both), new.certificate_pem().trim_end());
        let certificate_of = |authority: &Authority| signer(&both, authority.key_pem().reveal()).trim().to_owned();
        assert_eq!(certificate_of(&old), old.certificate_pem().trim_end());
        assert_eq!(certificate_of(&new), new.certificate_pem().trim_end());
        assert_eq!(certificate_of(&foreign), both.trim());
        let pair = |certificate: &str, key: Option<&Authority>| CertificateAuthority {
            certificate: certificate.to_owned(),
            key: key.map(Authority::key_pem),
        };
        assert!(succeeds(&pair(&both, Some(&old))));
        for settled in [pair(&both, Some(&new)), pair(&both, None), pair(old.certificate_pem(), Some(&old)), pair("none", Some(&old))] {
            assert!(!succeeds(&settled), "{settled:?}");
        }
    }

    #[test]
    fn names_are_numbered() {
        let names: Vec<String> = ["Kubernetes", "etcd peers 2", "a 9", "b c"].map(next_name).into();
        assert_eq!(names, ["Kubernetes 2", "etcd peers 3", "a 10", "b c 2"]);
    }
}
