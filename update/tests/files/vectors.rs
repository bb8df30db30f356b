//! The files in vectors/, for whoever writes another reader. docs/update-file.md says how they came to be. `make golden` (CORTEN_GOLDEN=1)
//! writes those that are not there and `verdicts.txt`; files of earlier releases stay as they are, for machines have to read them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use update::{HashTree, SignedManifest, TrustedKeys};

use crate::sample::{BUILT_AT, EXPIRES_AT, Parts, hash_tree, header, key, parts, take, tree_parts, trusted, with_manifest, write};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Name, what was done, and the bytes.
type Vector = (&'static str, &'static str, Vec<u8>);

fn made() -> Vec<Vector> {
    let (good, signed) = write(header(), &parts(), &[key(1)]).unwrap();
    let head = 16 + signed.bytes().len();
    let records = records(&good[head..]);
    let replaced = |from: &str, to: &str| {
        let bytes = String::from_utf8(signed.bytes().to_vec()).unwrap().replacen(from, to, 1);
        [&good[..12], &(bytes.len() as u32).to_le_bytes(), bytes.as_bytes(), &good[head..]].concat()
    };
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut wrong_digest = good.clone();
    wrong_digest[head] ^= 1;
    // The same compressed chunk under the name of another one.
    let mut exchanged = good[..head].to_vec();
    for (digest, data) in [(records[0], records[0]), (records[1], records[2]), (records[2], records[1]), (records[3], records[3])] {
        exchanged.extend([&digest[..32], &data[32..]].concat());
    }
    let signature = key(1).sign(signed.text()).to_string();
    let hashed = write(header(), &tree_parts(), &[key(1)]).unwrap().0;
    let other = HashTree { salt: "c0ffef".parse().unwrap(), ..hash_tree() };
    let wrong_salt = with_manifest(&hashed, |manifest| manifest.hash_tree = Some(other));
    vec![
        ("good.update", "signed by key 1", good.clone()),
        ("rotation.update", "signed by keys 2 and 1", write(header(), &parts(), &[key(2), key(1)]).unwrap().0),
        ("cut-short.update", "good.update without its last 100 bytes", good[..good.len() - 100].to_vec()),
        ("flipped-chunk.update", "good.update with the lowest bit of its last byte flipped", flipped),
        ("exchanged-chunks.update", "good.update with the contents of records 2 and 3 exchanged", exchanged),
        (
            "reordered.update",
            "good.update with records 2 and 3 exchanged",
            [&good[..head], records[0], records[2], records[1], records[3]].concat(),
        ),
        ("wrong-digest.update", "good.update with the lowest bit of the first record's digest flipped", wrong_digest),
        (
            "wrong-signature.update",
            "good.update with the signature that key 1 made of another text",
            replaced(&signature, &key(1).sign("another text").to_string()),
        ),
        ("unknown-key.update", "signed by key 2 alone", write(header(), &parts(), &[key(2)]).unwrap().0),
        ("changed-manifest.update", "good.update with version 1.4.1 written over 1.4.0", replaced("1.4.0", "1.4.1")),
        ("hash-tree.update", "a root with its hash tree, signed by key 1", hashed),
        ("wrong-salt.update", "hash-tree.update with another salt in hashTree, signed by key 1", wrong_salt),
    ]
}

/// The records, whole, of a file's tail.
fn records(mut tail: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while !tail.is_empty() {
        let length = u32::from_le_bytes(tail[32..36].try_into().unwrap()) as usize;
        let (record, rest) = tail.split_at(36 + length);
        records.push(record);
        tail = rest;
    }
    records
}

fn verdict(taken: Result<Parts, String>) -> String {
    match taken {
        Ok(taken) => {
            assert!(taken == parts() || taken == tree_parts());
            "taken".into()
        }
        Err(error) => error,
    }
}

#[test]
fn vectors_are_judged_as_ever() {
    let rewrite = std::env::var_os("CORTEN_GOLDEN").is_some();
    let trusted_file = folder().join("update-keys.json");
    if rewrite {
        std::fs::write(&trusted_file, format!("{{ \"threshold\": 1, \"keys\": [\"{}\"] }}\n", key(1).public())).unwrap();
    }
    let keys = TrustedKeys::parse(&std::fs::read(&trusted_file).unwrap()).unwrap();
    assert_eq!(keys, trusted());

    let mut verdicts = String::from("Clock at builtAt; trusted: update-keys.json.\n");
    for (name, what, bytes) in made() {
        let path = folder().join(name);
        if rewrite && !path.exists() {
            std::fs::write(&path, bytes).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        writeln!(verdicts, "\n{name}: {what}\n  {}", verdict(take(&bytes, &keys, BUILT_AT))).unwrap();
        if name == "good.update" {
            writeln!(verdicts, "  when the clock is at expiresAt: {}", verdict(take(&bytes, &keys, EXPIRES_AT))).unwrap();
            writeln!(verdicts, "  when the clock is at 0: {}", verdict(take(&bytes, &keys, 0))).unwrap();
        }
    }
    let golden = folder().join("verdicts.txt");
    if rewrite {
        std::fs::write(&golden, &verdicts).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&golden).unwrap(), verdicts, "run `make golden` and read the difference");
}

/// Chunks, digests, JSON and signature of today's writer are those of the vector, so deltas against earlier releases stay small. What
/// zstd makes of a chunk may change with its version.
#[test]
fn the_head_is_written_as_ever() {
    for (name, parts) in [("good.update", parts()), ("hash-tree.update", tree_parts())] {
        let vector = std::fs::read(folder().join(name)).unwrap();
        let (_, signed) = write(header(), &parts, &[key(1)]).unwrap();
        let head = &vector[16..][..u32::from_le_bytes(vector[12..16].try_into().unwrap()) as usize];
        assert_eq!(SignedManifest::parse(head).unwrap().text(), signed.text());
        assert_eq!(head, signed.bytes());
    }
}
