use super::*;
use crate::envelope::SignedManifest;
use crate::key::{Signature, SigningKey};
use crate::sample::{BUILT_AT, key, manifest};

fn trusted(threshold: u32, seeds: &[u8]) -> TrustedKeys {
    TrustedKeys { threshold, keys: seeds.iter().map(|seed| key(*seed).public()).collect() }
}

fn signed_by(seeds: &[u8]) -> SignedManifest {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    SignedManifest::sign(&manifest(), &keys).unwrap()
}

fn accepts(trusted: &TrustedKeys, signers: &[u8]) -> bool {
    signed_by(signers).verify(trusted, BUILT_AT).is_ok()
}

#[test]
fn a_threshold_counts_different_trusted_keys() {
    let one_of_two = trusted(1, &[1, 2]);
    assert!(accepts(&one_of_two, &[1]) && accepts(&one_of_two, &[2]) && accepts(&one_of_two, &[1, 2]));
    assert!(accepts(&one_of_two, &[9, 2]), "what an unknown key signed is ignored");
    assert!(!accepts(&one_of_two, &[]) && !accepts(&one_of_two, &[9]));

    let two_of_three = trusted(2, &[1, 2, 3]);
    assert!(accepts(&two_of_three, &[1, 3]) && accepts(&two_of_three, &[3, 9, 2]));
    assert!(!accepts(&two_of_three, &[1]) && !accepts(&two_of_three, &[1, 9]));
}

/// The same signature many times over, as a forger would write the envelope.
#[test]
fn a_signature_that_stands_twice_counts_once() {
    let text = "manifest";
    let once = SignatureOf { key: key(1).public().id(), signature: key(1).sign(text) };
    let error = signatures(&trusted(2, &[1, 2]), text, &[once.clone(), once.clone(), once]).unwrap_err();
    assert!(matches!(error, Untrusted::Signatures { valid: 1, threshold: 2, .. }), "{error:?}");
}

#[test]
fn a_key_that_stands_twice_counts_once() {
    let mut keys = trusted(2, &[1]);
    keys = keys.with([key(1).public()]);
    assert_eq!(signed_by(&[1]).verify(&keys, BUILT_AT), Err(Untrusted::Threshold { threshold: 2, keys: 1 }));
    assert!(accepts(&keys.with([key(2).public()]), &[1, 2]), "the machine config adds a key");
}

#[test]
fn a_threshold_of_nothing_accepts_nothing() {
    for (threshold, seeds) in [(0, &[][..]), (0, &[1]), (1, &[]), (3, &[1, 2])] {
        let refused = signed_by(&[1]).verify(&trusted(threshold, seeds), BUILT_AT);
        assert!(matches!(refused, Err(Untrusted::Threshold { .. })), "{threshold} of {seeds:?}: {refused:?}");
    }
}

#[test]
fn the_error_says_what_each_signature_is_worth() {
    let (one, two, nine) = (key(1).public(), key(2).public(), key(9).public());
    let wrong = [(two, Signature([7; 64]))];
    let signed = signed_by(&[1, 9]).with_signatures(wrong).unwrap();
    let error = signed.verify(&trusted(2, &[1, 2]), BUILT_AT).unwrap_err().to_string();
    let expected = format!(
        "signed by 1 of 2 trusted keys that are needed ({}: valid, {}: unknown key, {}: does not match the manifest): \
         sign it with a trusted key, or add the key to machine.upgrade.trustedKeys",
        one.id(),
        nine.id(),
        two.id()
    );
    assert_eq!(error, expected);
    let error = signed_by(&[]).verify(&trusted(1, &[1]), BUILT_AT).unwrap_err().to_string();
    assert!(error.starts_with("signed by 0 of 1 trusted keys that are needed (no signature at all)"), "{error}");
}

#[test]
fn an_update_expires_by_a_clock_that_may_be_wrong() {
    let keys = trusted(1, &[1]);
    let mut manifest = manifest();
    let at = |manifest: &Manifest, now: u64| SignedManifest::sign(manifest, &[key(1)]).unwrap().verify(&keys, now).map(drop);
    assert_eq!(at(&manifest, 0), Ok(()), "without an expiry the clock does not matter");
    assert_eq!(at(&manifest, u64::MAX), Ok(()));

    let expires_at = BUILT_AT + 1000;
    manifest.expires_at = Some(expires_at);
    assert_eq!(at(&manifest, expires_at - 1), Ok(()));
    assert_eq!(at(&manifest, BUILT_AT - 3600), Ok(()), "the build host's clock may be an hour ahead");
    let error = at(&manifest, expires_at).unwrap_err();
    assert_eq!(error, Untrusted::Expired { expires_at, now: expires_at });
    let text = "the update expired at 2026-09-21T14:30:00Z, and the clock says 2026-09-21T14:30:00Z: take a newer update, or set the clock if it is wrong";
    assert_eq!(error.to_string(), text);
    let error = at(&manifest, BUILT_AT - 2 * CLOCK_TOLERANCE_SECONDS).unwrap_err();
    let text = "the update expires, and the clock says 2026-09-19T14:13:20Z, before it was built at 2026-09-21T14:13:20Z: the clock is wrong and cannot tell; set it and try again";
    assert_eq!(error.to_string(), text);
    assert!(at(&manifest, u64::MAX).unwrap_err().to_string().contains("the clock says second 18446744073709551615"));
}

/// The releases of a rotation from key 1 to key 2, and the machines that meet them.
#[test]
fn keys_are_exchanged_over_two_releases() {
    let (before, between, after) = (trusted(1, &[1]), trusted(1, &[1, 2]), trusted(1, &[2]));
    assert!(accepts(&before, &[1]) && accepts(&between, &[2]) && accepts(&after, &[2]));
    assert!(accepts(&before, &[1, 2]) && accepts(&between, &[1, 2]) && accepts(&after, &[1, 2]), "both keys suit every machine");
    assert!(!accepts(&before, &[2]), "the new key alone leaves old machines behind");
    assert!(!accepts(&after, &[1]), "the old key is worth nothing any more");
}

#[test]
fn the_file_of_trusted_keys_is_strict() {
    let key = key(1).public();
    let parse = |text: &str| TrustedKeys::parse(text.as_bytes());
    assert_eq!(parse(&format!(r#"{{ "threshold": 1, "keys": ["{key}"] }}"#)).unwrap(), trusted(1, &[1]));
    assert_eq!(parse(r#"{"threshold":1,"keys":[]}"#).unwrap(), trusted(1, &[]), "an image whose keys all come by machine config");
    assert!(matches!(parse(r#"{"threshold":0,"keys":[]}"#), Err(BadTrustedKeys::Threshold)));
    for bad in [r#"{"keys":[]}"#, r#"{"threshold":1}"#, r#"{"threshold":1,"keys":["AA"]}"#, r#"{"threshold":1,"keys":[],"x":1}"#, "", "[]"]
    {
        assert!(matches!(parse(bad), Err(BadTrustedKeys::Parse(_))), "{bad}");
    }
}
