use super::*;
use crate::chunk::MAX_CHUNK_BYTES;
use crate::hash_tree::HashTree;
use crate::sample::{manifest, part};

fn text(manifest: &Manifest) -> String {
    serde_json::to_string(manifest).unwrap()
}

#[test]
fn a_manifest_reads_as_it_was_written() {
    let mut manifest = manifest();
    assert_eq!(Manifest::parse(&text(&manifest)).unwrap(), manifest);
    manifest.kubernetes = None;
    manifest.expires_at = Some(1_800_000_000);
    manifest.release_notes.clear();
    assert_eq!(Manifest::parse(&text(&manifest)).unwrap(), manifest);
}

fn tree() -> HashTree {
    HashTree { uuid: "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap(), salt: "00ff".parse().unwrap() }
}

#[test]
fn a_hash_tree_stands_behind_the_root_hash_and_may_be_absent() {
    let mut manifest = manifest();
    assert!(!text(&manifest).contains("hashTree"));
    manifest.hash_tree = Some(tree());
    manifest.parts[0] = part(PartName::Root, &[70_000, 81_552]);
    manifest.parts[1] = part(PartName::Verity, &[8192]);
    assert!(text(&manifest).contains(r#"","hashTree":{"uuid":"01234567-89ab-cdef-0123-456789abcdef","salt":"00ff"},"slotBytes":"#));
    assert_eq!(Manifest::parse(&text(&manifest)).unwrap(), manifest);
}

#[test]
fn a_later_field_is_ignored_and_a_later_version_is_not() {
    let later = text(&manifest()).replacen('{', r#"{"mood":{"good":[true]},"#, 1);
    assert_eq!(Manifest::parse(&later).unwrap(), manifest());
    let error = Manifest::parse(r#"{"formatVersion":2,"parts":"elsewhere"}"#).unwrap_err();
    assert_eq!(error.to_string(), "manifest of format version 2; this release reads 1: take a release in between first");
}

#[test]
fn chunks_have_their_places() {
    let root = &manifest().parts[0];
    let places: Vec<(u64, u32)> = root.placed_chunks().map(|(offset, chunk)| (offset, chunk.size)).collect();
    assert_eq!(places, [(0, 70_000), (70_000, 80_000)]);
    assert_eq!(manifest().total_bytes(), 184_096);
}

#[test]
fn a_chunk_that_stands_twice_is_needed_once() {
    let mut manifest = manifest();
    let first = manifest.parts[0].chunks[0];
    manifest.parts[2] = Part { chunks: vec![first], size_bytes: 70_000, ..manifest.parts[2].clone() };
    manifest.check().unwrap();
    let sizes: Vec<u32> = manifest.distinct_chunks().iter().map(|chunk| chunk.size).collect();
    assert_eq!(sizes, [70_000, 80_000, 4096]);
}

/// One change each, and what is said about it.
#[test]
fn what_breaks_a_rule_is_named() {
    type Change = fn(&mut Manifest);
    let cases: &[(Change, &str)] = &[
        (|m| m.profile.clear(), r#"profile: ""; expected 1 to 128 letters, digits or any of -_.+~"#),
        (|m| m.profile = "../etc".into(), r#"profile: "../etc"; expected 1 to 128 letters, digits or any of -_.+~"#),
        (|m| m.architecture = "x86\u{1b}[2J".into(), r#"architecture: "x86\u{1b}[2J"; expected 1 to 128 letters, digits or any of -_.+~"#),
        (
            |m| m.kernel_release = "6".repeat(129),
            r#"kernelRelease: "66666666666666666666666666666666666666666666666666666666666666666666666666666666..."; expected 1 to 128 letters, digits or any of -_.+~"#,
        ),
        (
            |m| m.version = format!("1.0.0-{}", "a".repeat(200)).parse().unwrap(),
            r#"version: "1.0.0-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."; expected at most 128 characters"#,
        ),
        (|m| m.built_at = u64::MAX, "builtAt: 18446744073709551615; expected seconds since 1970, before the year 10000"),
        (|m| m.expires_at = Some(253_402_300_800), "expiresAt: 253402300800; expected seconds since 1970, before the year 10000"),
        (|m| m.release_notes = "n".repeat(65_537), "releaseNotes: 65537 bytes; expected at most 65536"),
        (|m| m.release_notes = "\u{1b}]0;".into(), "releaseNotes: control characters; expected plain text with line breaks and tabs"),
        (|m| m.release_notes = "\u{202e}".into(), "releaseNotes: control characters; expected plain text with line breaks and tabs"),
        (|m| m.slot_bytes = 0, "slotBytes: 0; expected 1 to 1073741824"),
        (|m| m.slot_bytes = u64::MAX, "slotBytes: 18446744073709551615; expected 1 to 1073741824"),
        (|m| m.slot_bytes = 149_999, "parts[0].sizeBytes: 150000; expected 1 to 149999"),
        (|m| m.parts.clear(), "parts: none; expected root, verity, uki, in this order"),
        (|m| m.parts.swap(0, 1), "parts: verity, root, uki; expected root, verity, uki, in this order"),
        (|m| m.parts.push(m.parts[0].clone()), "parts: root, verity, uki, root; expected root, verity, uki, in this order"),
        (|m| m.parts[1].size_bytes += 1, "parts[1].chunks: 4096 bytes in all; expected 4097, the part's size"),
        (|m| m.parts[2] = part(PartName::Uki, &[]), "parts[2].sizeBytes: 0; expected 1 to 1073741824"),
        (|m| m.parts[1].chunks[0].size = 0, "parts[1].chunks[0].size: 0; expected 1 to 262144"),
        (|m| m.parts[0].chunks[1].size = MAX_CHUNK_BYTES + 1, "parts[0].chunks[1].size: 262145; expected 1 to 262144"),
        (
            |m| m.parts[0].chunks[1].sha256 = m.parts[0].chunks[0].sha256,
            "parts[0].chunks[1].size: 80000; expected 70000, as the same chunk has it before",
        ),
        (
            |m| m.hash_tree = Some(tree()),
            "parts[0].sizeBytes: 150000; expected at least two whole blocks of 4096 bytes, since hashTree makes a tree of them",
        ),
        (
            |m| (m.hash_tree, m.parts[0]) = (Some(tree()), part(PartName::Root, &[4096])),
            "parts[0].sizeBytes: 4096; expected at least two whole blocks of 4096 bytes, since hashTree makes a tree of them",
        ),
        (
            |m| (m.hash_tree, m.parts[0]) = (Some(tree()), part(PartName::Root, &[8192, 4096])),
            "parts[1].sizeBytes: 4096; expected 8192, the size of the tree that hashTree makes of the root",
        ),
        (|m| m.parts[1] = part(PartName::Verity, &[1; 32_768]), "parts: 32771 chunks; expected at most 32768"),
    ];
    for (change, expected) in cases {
        let mut manifest = manifest();
        change(&mut manifest);
        let error = Manifest::parse(&text(&manifest)).unwrap_err().to_string();
        assert_eq!(error, format!("manifest: {expected}"));
    }
}

/// Numbers and text that do not fit the types at all.
#[test]
fn what_is_no_manifest_is_refused() {
    let good = text(&manifest());
    let long_salt = format!(r#""hashTree":{{"uuid":"01234567-89ab-cdef-0123-456789abcdef","salt":"{}"}},"slotBytes""#, "00".repeat(257));
    for (from, to) in [
        (r#""formatVersion":1"#, r#""formatVersion":-1"#),
        (r#""formatVersion":1"#, r#""formatVersion":1,"formatVersion":1"#),
        (r#""version":"1.4.0""#, r#""version":"1.4""#),
        (r#""version":"1.4.0""#, r#""version":"1.4.0","version":"1.4.0""#),
        (r#""size":70000"#, r#""size":4294967296"#),
        (r#""size":70000"#, r#""size":7e4"#),
        (r#""size":70000"#, r#""size":null"#),
        (r#""name":"root""#, r#""name":"root\u001b[2J""#),
        (r#""sha256":""#, r#""sha256":"A"#),
        (r#""parts":["#, r#""parts":[["#),
        (r#""slotBytes""#, r#""hashTree":{},"slotBytes""#),
        (r#""slotBytes""#, r#""hashTree":{"uuid":"01234567-89ab-cdef-0123-456789abcdef"},"slotBytes""#),
        (r#""slotBytes""#, r#""hashTree":{"uuid":"\u001b[2J","salt":""},"slotBytes""#),
        (r#""slotBytes""#, r#""hashTree":{"uuid":"01234567-89ab-cdef-0123-456789abcdef","salt":"\u001b[2J"},"slotBytes""#),
        (r#""slotBytes""#, r#""hashTree":{"uuid":"01234567-89ab-cdef-0123-456789abcdef","salt":"abc"},"slotBytes""#),
        (r#""slotBytes""#, &long_salt),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let error = Manifest::parse(&bad).unwrap_err();
        assert!(matches!(error, BadManifest::Manifest(_)), "{to}: {error:?}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(!cause.contains('\u{1b}'), "{cause:?}");
    }
    let deep = good.replacen('{', &format!(r#"{{"x":{}{},"#, "[".repeat(100_000), "]".repeat(100_000)), 1);
    assert_eq!(Manifest::parse(&deep).unwrap(), manifest(), "no depth makes the parser run out of stack");
}
