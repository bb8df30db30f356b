//! Keys: made once, never overwritten, and what firmware and systemd-boot expect.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support;

fn new(out: &Path, more: &[&str]) -> std::process::Output {
    support::image_build().args(["keys", "new", "--out"]).arg(out).args(more).output().unwrap()
}

fn openssl(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("openssl").args(arguments).arg(file).output().unwrap();
    support::succeeded(&output);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_update_key_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("keys");
    support::succeeded(&new(&out, &[]));
    assert_eq!(support::names(&out), ["update.key", "update.pub"]);
    let private = fs::read_to_string(out.join("update.key")).unwrap();
    assert_eq!(fs::metadata(out.join("update.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let key = update::SigningKey::from_pem(&private).unwrap();
    assert_eq!(fs::read_to_string(out.join("update.pub")).unwrap(), format!("{}\n", key.public()));
    assert!(openssl(&["pkey", "-noout", "-text", "-in"], &out.join("update.key")).starts_with("ED25519 Private-Key"));

    for more in [&[][..], &["--secure-boot"]] {
        let error = support::refusal(&new(&out, more));
        assert!(error.contains("update.key is there already and is not overwritten"), "{error}");
    }
    assert_eq!(fs::read_to_string(out.join("update.key")).unwrap(), private);
    assert_eq!(support::names(&out), ["update.key", "update.pub"]);
}

#[test]
fn secure_boot_keys_sign_each_other_s_variables() {
    let directory = tempfile::tempdir().unwrap();
    let (other, out) = (directory.path().join("other"), directory.path().join("keys"));
    support::succeeded(&new(&other, &["--secure-boot"]));
    let trusted = other.join("secure-boot/db.crt");
    support::succeeded(&new(&out, &["--secure-boot", "--also-trust", trusted.to_str().unwrap()]));
    let folder = out.join("secure-boot");
    let names: Vec<String> =
        ["KEK", "PK", "db"].iter().flat_map(|name| ["auth", "crt", "key"].map(|kind| format!("{name}.{kind}"))).collect();
    assert_eq!(support::names(&folder), names);
    for name in ["KEK", "PK", "db"] {
        let mode = fs::metadata(folder.join(format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        let text = openssl(&["x509", "-noout", "-text", "-in"], &folder.join(format!("{name}.crt")));
        assert!(text.contains("Public-Key: (2048 bit)") && text.contains("sha256WithRSAEncryption"), "{text}");
        assert!(text.contains(&format!("CN = Corten Secure Boot {name}")), "{text}");
    }
    for (name, signer, certificates) in [("PK", "PK", 1), ("KEK", "PK", 1), ("db", "KEK", 2)] {
        let content = fs::read(folder.join(format!("{name}.auth"))).unwrap();
        let (signature, lists) = authenticated(&content);
        assert!(contains(signature, format!("Corten Secure Boot {signer}").as_bytes()), "{name} is not signed by {signer}");
        assert_eq!(lists, certificates, "{name}: certificates");
    }
}

/// `EFI_VARIABLE_AUTHENTICATION_2` (UEFI 2.10, 8.2.2): 16 bytes of time, a `WIN_CERTIFICATE` with a PKCS #7 signature, the content. Returns
/// the signature and how many signature lists the content has.
fn authenticated(content: &[u8]) -> (&[u8], usize) {
    let number = |at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap()) as usize;
    let (length, kind) = (number(16), u16::from_le_bytes([content[22], content[23]]));
    assert_eq!(kind, 0x0ef1, "WIN_CERT_TYPE_EFI_GUID");
    let mut at = 16 + length;
    let mut lists = 0;
    while at < content.len() {
        assert_eq!(hex::encode(&content[at..at + 16]), "a159c0a5e494a74a87b5ab155c2bf072", "EFI_CERT_X509_GUID");
        at += number(at + 16);
        lists += 1;
    }
    assert_eq!(at, content.len());
    (&content[16..16 + length], lists)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
