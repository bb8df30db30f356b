//! The secrets file survives being written and read, and nothing else passes for one.

use std::sync::OnceLock;

use super::*;

fn secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    SECRETS.get_or_init(|| Secrets::generate(SystemTime::now()).expect("made"))
}

fn read(secrets: &Secrets) -> Result<Secrets, SecretsError> {
    Secrets::from_yaml(&secrets.to_yaml().expect("YAML"))
}

#[test]
fn what_is_written_is_read_back() {
    assert_eq!(&read(secrets()).expect("readable"), secrets());
}

#[test]
fn all_authorities_are_apart() {
    let certificates: std::collections::BTreeSet<&str> =
        AuthorityId::ALL.iter().map(|id| id.of(&secrets().certificate_authorities).certificate.as_str()).collect();
    assert_eq!(certificates.len(), 6);
}

#[test]
fn another_file_is_refused() {
    let text = secrets().to_yaml().expect("YAML");
    let kind = Secrets::from_yaml(&text.replace("kind: Secrets", "kind: MachineConfig")).expect_err("another kind");
    assert_eq!(kind.to_string(), "secrets file: kind is \"MachineConfig\"; expected \"Secrets\"");
    let version = Secrets::from_yaml(&text.replace("corten.dev/v1", "corten.dev/v9")).expect_err("another version");
    assert!(version.to_string().contains("apiVersion"), "{version}");
    let unknown = Secrets::from_yaml(&format!("{text}extra: 1\n"));
    assert!(matches!(unknown, Err(SecretsError::Parse(_))), "{unknown:?}");
    assert!(matches!(Secrets::from_yaml(&text[..text.len() / 2]), Err(SecretsError::Parse(_))));
}

#[test]
fn errors_do_not_show_the_keys() {
    let text = secrets().to_yaml().expect("YAML").replace("joinToken", "joinTokem");
    let error = Secrets::from_yaml(&text).expect_err("a misspelt field");
    let source = std::error::Error::source(&error).expect("a reason").to_string();
    assert!(source.contains("joinTokem"), "{source}");
    assert!(!source.contains(secrets().join_token.reveal()) && !source.contains(secrets().encryption_key.reveal()), "{source}");
}

#[test]
fn damaged_keys_are_named() {
    let mut mixed = secrets().clone();
    mixed.certificate_authorities.kubelet.key = mixed.certificate_authorities.machine.key.clone();
    assert_eq!(read(&mixed).expect_err("mixed").to_string(), "secrets file: certificateAuthorities.kubelet");
    let mut without = secrets().clone();
    without.certificate_authorities.machine.key = None;
    assert!(matches!(read(&without), Err(SecretsError::MissingKey(AuthorityId::Machine))));
    let short = Secrets { encryption_key: Secret::new("c2hvcnQ="), ..secrets().clone() };
    assert!(matches!(read(&short), Err(SecretsError::BadEncryptionKey)));
    let token = Secrets { join_token: Secret::new("ABCDEF.0123456789abcdef"), ..secrets().clone() };
    assert!(matches!(read(&token), Err(SecretsError::BadJoinToken)));
    let signer = Secrets { service_account_key: Secret::new("none"), ..secrets().clone() };
    assert!(matches!(read(&signer), Err(SecretsError::BadServiceAccountKey)));
}

#[test]
fn tokens_have_their_form_and_differ() {
    let (one, other) = (join_token().expect("made"), join_token().expect("made"));
    assert!(is_join_token(one.reveal()) && is_join_token(other.reveal()));
    assert_ne!(one, other);
    for wrong in
        ["", ".", "abcdef", "abcde.0123456789abcdef", "abcdef.0123456789abcde", "abcdef.0123456789abcdeF", "abcdef.0123456789abcdef.x"]
    {
        assert!(!is_join_token(wrong), "{wrong}");
    }
}
