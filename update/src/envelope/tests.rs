use super::*;
use crate::sample::{BUILT_AT, key, manifest, part};
use crate::{AVERAGE_CHUNK_BYTES, MAX_PART_BYTES, PartName};

fn trusted() -> TrustedKeys {
    TrustedKeys { threshold: 1, keys: vec![key(1).public()] }
}

#[test]
fn what_is_signed_is_read_and_verified() {
    let signed = SignedManifest::sign(&manifest(), &[key(1)]).unwrap();
    let read = SignedManifest::parse(signed.bytes()).unwrap();
    assert_eq!(read, signed);
    assert_eq!(read.peek(), &manifest());
    assert_eq!(read.verify(&trusted(), BUILT_AT).unwrap(), manifest());
    assert_eq!(read.id(), Digest::of(serde_json::to_string(&manifest()).unwrap().as_bytes()));
}

/// What is signed are bytes: nobody may write the same JSON in another way.
#[test]
fn any_change_of_the_text_breaks_the_signature() {
    let signed = SignedManifest::sign(&manifest(), &[key(1)]).unwrap();
    let text = String::from_utf8(signed.bytes().to_vec()).unwrap();
    for (from, to) in [("1.4.0", "1.4.1"), ("70000,", "70000 ,"), ("worker", "workers"), ("Fixes", "Fixed")] {
        let changed = text.replacen(from, to, 1).replace("70000 ,", "70000,");
        let changed = if from == "70000," { text.replacen("\\\"formatVersion\\\":1", "\\\"formatVersion\\\": 1", 1) } else { changed };
        assert_ne!(changed, text);
        let read = SignedManifest::parse(changed.as_bytes()).unwrap();
        assert_ne!(read.id(), signed.id());
        assert!(matches!(read.verify(&trusted(), BUILT_AT), Err(Untrusted::Signatures { valid: 0, .. })), "{from}");
    }
}

#[test]
fn further_signatures_leave_the_id() {
    let once = SignedManifest::sign(&manifest(), &[key(1)]).unwrap();
    let twice = once.with_signatures_of(&[key(2)]).unwrap();
    assert_eq!(twice.id(), once.id());
    assert_eq!(twice.signed_by(), [key(1).public().id(), key(2).public().id()]);
    assert_eq!(twice.with_signatures_of(&[key(1)]).unwrap().signed_by().len(), 2, "a key signs once");
    let elsewhere = (key(3).public(), key(3).sign(once.text()));
    assert_eq!(once.with_signatures([elsewhere]).unwrap(), once.with_signatures_of(&[key(3)]).unwrap());
    let keys: Vec<SigningKey> = (1..=33).map(key).collect();
    assert!(matches!(SignedManifest::sign(&manifest(), &keys), Err(BadManifest::TooManySignatures { found: 33 })));
}

#[test]
fn what_is_too_long_is_not_read() {
    let error = SignedManifest::parse(&vec![b' '; MAX_ENVELOPE_BYTES + 1]).unwrap_err();
    assert_eq!(error.to_string(), "signed manifest of 3145729 bytes; expected at most 3145728");
    for bad in [&b""[..], b"{}", b"null", b"{\"manifest\":1,\"signatures\":[]}", b"\xff", b"{\"manifest\":\"\\ud800\",\"signatures\":[]}"] {
        assert!(matches!(SignedManifest::parse(bad), Err(BadManifest::Envelope(_))), "{bad:?}");
    }
}

/// A slot that is full to its last byte, cut into chunks of average size, and the longest release notes.
#[test]
fn the_largest_image_fits() {
    let mut manifest = manifest();
    manifest.slot_bytes = MAX_PART_BYTES;
    let chunks = |bytes: u64| vec![AVERAGE_CHUNK_BYTES; (bytes / u64::from(AVERAGE_CHUNK_BYTES)) as usize];
    const MIB: u64 = 1024 * 1024;
    manifest.parts[0] = part(PartName::Root, &chunks(MAX_PART_BYTES));
    manifest.parts[1] = part(PartName::Verity, &chunks(64 * MIB));
    manifest.parts[2] = part(PartName::Uki, &chunks(128 * MIB));
    manifest.release_notes = "n".repeat(64 * 1024);
    let signed = SignedManifest::sign(&manifest, &[key(1), key(2), key(3)]).unwrap();
    assert!(signed.bytes().len() < MAX_ENVELOPE_BYTES * 7 / 10, "{} bytes", signed.bytes().len());
}
