//! Authorities issue what was asked for, and judge what others issued.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_000 * DAY
}

fn authority() -> Authority {
    Authority::generate("test", now(), 100 * DAY).expect("made")
}

fn request(lifetime: Duration) -> CertificateRequest {
    let sans = ["a.example", "192.0.2.1", "2001:db8::1"].map(|name| name.parse().expect("never fails")).to_vec();
    let organization = Some("system:nodes".to_owned());
    CertificateRequest { common_name: "system:node:a".to_owned(), organization, sans, usage: Usage::Both, lifetime }
}

#[test]
fn a_certificate_says_what_was_asked_for() {
    let authority = authority();
    let issued = authority.issue(&request(10 * DAY), now()).expect("issued");
    let certificate = Certificate::inspect(&issued.certificate_pem).expect("readable");
    assert_eq!(certificate.common_name, "system:node:a");
    assert_eq!(certificate.organizations, ["system:nodes"]);
    assert_eq!(certificate.issuer, "test");
    assert_eq!(certificate.sans, request(DAY).sans);
    // As old as its authority, which is younger than the thirty days that a leaf may reach back.
    assert_eq!(certificate.not_before, now() - BACKDATE);
    assert_eq!(certificate.not_after, now() + 10 * DAY);
    assert!(!certificate.is_authority);
    verify_chain(&issued.certificate_pem, authority.certificate_pem(), now()).expect("a chain");
}

#[test]
fn a_clock_days_ahead_makes_certificates_that_are_valid_today() {
    let authority = authority();
    for ahead in [DAY, 29 * DAY] {
        let issued = authority.issue(&request(365 * DAY), now() + ahead).expect("issued");
        verify_chain(&issued.certificate_pem, authority.certificate_pem(), now()).expect("valid by the right clock");
    }
}

#[test]
fn an_authority_is_read_back_and_issues_for_the_same_chain() {
    let first = authority();
    let again = Authority::from_pem(first.certificate_pem(), first.key_pem().reveal()).expect("read");
    assert_eq!((again.name(), again.key_pem()), ("test", first.key_pem()));
    let issued = again.issue(&request(DAY), now()).expect("issued");
    verify_chain(&issued.certificate_pem, first.certificate_pem(), now()).expect("a chain");
}

#[test]
fn a_key_of_another_or_no_authority_is_refused() {
    let (one, other) = (authority(), authority());
    let mixed = Authority::from_pem(one.certificate_pem(), other.key_pem().reveal());
    assert!(matches!(mixed, Err(PkiError::KeyMismatch { .. })), "{mixed:?}");
    let leaf = one.issue(&request(DAY), now()).expect("issued");
    let leaf = Authority::from_pem(&leaf.certificate_pem, leaf.key_pem.reveal());
    assert!(matches!(leaf, Err(PkiError::NotAnAuthority { .. })), "{leaf:?}");
    assert!(Authority::from_pem("", one.key_pem().reveal()).is_err());
    assert!(Authority::from_pem(one.certificate_pem(), "nonsense").is_err());
    assert!(Authority::from_pem(one.key_pem().reveal(), one.key_pem().reveal()).is_err());
}

#[test]
fn a_chain_needs_the_signature_and_the_time() {
    // The same name, so that only the signature tells them apart.
    let (mine, foreign) = (authority(), authority());
    let issued = mine.issue(&request(DAY), now()).expect("issued").certificate_pem;
    let verify = |authority: &Authority, time| verify_chain(&issued, authority.certificate_pem(), time);
    assert!(matches!(verify(&foreign, now()), Err(PkiError::NotSignedBy { .. })));
    assert!(matches!(verify(&mine, now() + 2 * DAY), Err(PkiError::NotValidNow { .. })));
    assert!(matches!(verify(&mine, now() - DAY), Err(PkiError::NotValidNow { .. })));
    verify(&mine, now() - BACKDATE).expect("an hour back");
}

#[test]
fn an_old_and_a_new_authority_stand_together_while_they_change() {
    let (old, new) = (authority(), authority());
    let both = format!("{}{}", old.certificate_pem(), new.certificate_pem());
    for authority in [&old, &new] {
        let read = Authority::from_pem(&both, authority.key_pem().reveal()).expect("its own among the two");
        let issued = read.issue(&request(DAY), now()).expect("issued").certificate_pem;
        verify_chain(&issued, authority.certificate_pem(), now()).expect("its own chain");
        verify_chain(&issued, &both, now()).expect("one of the two");
    }
    let third = authority().issue(&request(DAY), now()).expect("issued").certificate_pem;
    assert!(matches!(verify_chain(&third, &both, now()), Err(PkiError::NotSignedBy { .. })));
    assert!(matches!(verify_chain(&third, "", now()), Err(PkiError::Parse { .. })));
}

#[test]
fn nothing_outlives_its_authority() {
    let authority = authority();
    let issued = authority.issue(&request(1000 * DAY), now()).expect("issued");
    assert_eq!(Certificate::inspect(&issued.certificate_pem).expect("readable").not_after, now() + 100 * DAY);
    let late = authority.issue(&request(DAY), now() + 101 * DAY);
    assert!(matches!(late, Err(PkiError::AuthorityExpired { .. })), "{late:?}");
}

#[test]
fn a_signing_request_gives_its_key_and_nothing_else() {
    let authority = authority();
    let asked = CertificateRequest { common_name: "admin".to_owned(), organization: Some("system:masters".to_owned()), ..request(DAY) };
    let signing = signing_request(&asked).expect("made");
    let certificate_pem = authority.issue_for(&signing.request_pem, &request(DAY), now()).expect("issued");
    let certificate = Certificate::inspect(&certificate_pem).expect("readable");
    assert_eq!(
        (certificate.common_name.as_str(), certificate.organizations.as_slice()),
        ("system:node:a", &["system:nodes".to_owned()][..])
    );
    let key = rcgen::KeyPair::from_pem(signing.key_pem.reveal()).expect("a key");
    assert_eq!(certificate.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
    assert!(matches!(authority.issue_for("nonsense", &request(DAY), now()), Err(PkiError::Parse { .. })));
}

#[test]
fn a_signing_request_with_a_false_signature_is_refused() {
    let signing = signing_request(&request(DAY)).expect("made");
    let mut der = x509_parser::pem::parse_x509_pem(signing.request_pem.as_bytes()).expect("PEM").1.contents;
    let last = der.len() - 1;
    der[last] ^= 1;
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
    assert!(authority().issue_for(&forged, &request(DAY), now()).is_err());
}

#[test]
fn serials_differ_even_for_one_key() {
    let authority = authority();
    let signing = signing_request(&request(DAY)).expect("made");
    let serial = || {
        Certificate::inspect(&authority.issue_for(&signing.request_pem, &request(DAY), now()).expect("issued")).expect("readable").serial
    };
    assert_ne!(serial(), serial());
}

#[test]
fn names_that_x509_cannot_hold_are_refused_by_name() {
    let bad = CertificateRequest { sans: vec![San::Dns("bücher.example".to_owned())], ..request(DAY) };
    let error = authority().issue(&bad, now()).expect_err("refused");
    assert_eq!(error.to_string(), "certificate for \"system:node:a\": name \"bücher.example\" is neither an IP address nor ASCII text");
}

#[test]
fn a_fingerprint_is_the_digest_of_the_der() {
    let issued = self_signed(&request(DAY), now()).expect("made");
    let fingerprint = fingerprint(&issued.certificate_pem).expect("readable");
    assert_eq!(fingerprint.len(), 32 * 3 - 1);
    assert_ne!(fingerprint, super::fingerprint(authority().certificate_pem()).expect("readable"));
    verify_chain(&issued.certificate_pem, &issued.certificate_pem, now()).expect("it vouches for itself");
}

#[test]
fn roles_are_read_as_they_are_written() {
    for role in MachineRole::ALL {
        assert_eq!(role.organization().parse(), Ok(role));
    }
    let error = "os:god".parse::<MachineRole>().expect_err("no role");
    assert_eq!(error.to_string(), "role \"os:god\": expected one of os:reader, os:operator, os:admin, os:machine, os:proxy");
}

proptest! {
    /// Due after two thirds and well before the end, whatever the jitter; then for good.
    #[test]
    fn renewal_comes_in_time(life in 3600_u64..10_000_000, jitter in -1.0..2.0_f64, at in 0.0..1.0_f64) {
        let (from, to) = (now(), now() + Duration::from_secs(life));
        let time = from + Duration::from_secs(life).mul_f64(at);
        let due = renewal_due(from, to, time, jitter);
        prop_assert!(!due || at >= 0.66);
        prop_assert!(due || at <= 0.77);
        prop_assert_eq!(due, renewal_time(from, to, jitter) <= time);
    }
}

#[test]
fn a_certificate_from_the_future_is_due() {
    assert!(renewal_due(now() + DAY, now() + 10 * DAY, now(), 0.0));
}

#[test]
fn what_a_request_asks_for_is_read_whole() {
    let signing = signing_request(&request(DAY)).expect("made");
    let read = SigningRequest::inspect(&signing.request_pem).expect("readable");
    assert_eq!((read.common_name.as_str(), read.organizations.as_slice()), ("system:node:a", &["system:nodes".to_owned()][..]));
    assert_eq!((read.sans, read.oddities), (request(DAY).sans, Vec::<String>::new()));
    assert_eq!(read.public_key, public_key(&signing.key_pem).expect("a key"));

    let key = rcgen::KeyPair::generate().expect("made");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CountryName, "XX");
    params.subject_alt_names.push(rcgen::SanType::Rfc822Name("a@b.example".try_into().expect("ASCII")));
    let odd = params.serialize_request(&key).and_then(|request| request.pem()).expect("made");
    assert_eq!(SigningRequest::inspect(&odd).expect("readable").oddities.len(), 2);
    assert!(SigningRequest::inspect("nonsense").is_err());
}
