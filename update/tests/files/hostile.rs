//! Files that somebody broke. Whatever they are: no panic, and if they are taken, then with exactly what was signed.

use proptest::prelude::*;
use proptest::sample::Index;
use update::{MAX_ENVELOPE_BYTES, SignedManifest, UpdateFile};

use crate::sample::{BUILT_AT, file, header, key, parts, take, tree_parts, trusted, write};

#[test]
fn lengths_are_checked_before_anything_is_read() {
    let head = |version: u32, length: u32| [&b"CORTENUP"[..], &version.to_le_bytes(), &length.to_le_bytes()].concat();
    let error = |bytes: &[u8]| take(bytes, &trusted(), BUILT_AT).unwrap_err();
    assert_eq!(error(b""), "no update file of Corten: it does not begin with CORTENUP");
    assert_eq!(error(b"CORTENU"), "no update file of Corten: it does not begin with CORTENUP");
    assert_eq!(error(&[0x7f; 100]), "no update file of Corten: it does not begin with CORTENUP");
    assert_eq!(error(b"CORTENUP\x01"), "the update file is cut short in its head: fetch it again");
    assert_eq!(error(&head(2, 0)), "update file of version 2; this release reads 1: use the machinectl of a newer release");
    assert_eq!(error(&head(1, u32::MAX)), "signed manifest of 4294967295 bytes; expected at most 3145728");
    assert_eq!(error(&head(1, MAX_ENVELOPE_BYTES as u32)), "the update file is cut short in its signed manifest: fetch it again");
    assert_eq!(error(&head(1, 0)), "reading the signed manifest: EOF while parsing a value at line 1 column 0");
}

#[test]
fn a_record_of_no_length_or_of_any_is_refused() {
    let (bytes, signed) = write(header(), &parts(), &[key(1)]).unwrap();
    let length = 16 + signed.bytes().len() + 32;
    for claimed in [0, 264_193, u32::MAX] {
        let mut broken = bytes.clone();
        broken[length..length + 4].copy_from_slice(&u32::to_le_bytes(claimed));
        let error = take(&broken, &trusted(), BUILT_AT).unwrap_err();
        assert_eq!(error, format!("record 1 of 4 has {claimed} bytes; expected 1 to 264192"));
    }
    let error = take(&[&bytes[..], b"more"].concat(), &trusted(), BUILT_AT).unwrap_err();
    assert_eq!(error, "4 bytes follow the last record");
}

/// A file that was cut anywhere says so, and none is taken.
#[test]
fn a_file_that_was_cut_is_never_taken() {
    let (bytes, _) = write(header(), &parts(), &[key(1)]).unwrap();
    for length in (0..bytes.len()).step_by(13) {
        take(&bytes[..length], &trusted(), BUILT_AT).unwrap_err();
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Write(Index, Vec<u8>),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Swap(Index, Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let some = || proptest::collection::vec(any::<u8>(), 1..9);
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<Index>(), some()).prop_map(|(at, bytes)| Damage::Write(at, bytes)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), some()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (any::<Index>(), 1..100_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<Index>(), any::<Index>(), 1..50_usize).prop_map(|(one, two, count)| Damage::Swap(one, two, count)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match damage {
        Damage::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Damage::Write(at, new) => bytes.iter_mut().skip(at.index(length)).zip(new).for_each(|(byte, new)| *byte = *new),
        Damage::Cut(at) => bytes.truncate(at.index(length)),
        Damage::Insert(at, new) => drop(bytes.splice(at.index(length)..at.index(length), new.iter().copied())),
        Damage::Remove(at, count) => drop(bytes.drain(at.index(length)..(at.index(length) + count).min(length))),
        Damage::Swap(one, two, count) => {
            (0..*count)
                .map(|step| ((one.index(length) + step) % length, (two.index(length) + step) % length))
                .for_each(|(a, b)| bytes.swap(a, b));
        }
    }
}

/// The file and where its records begin, made once.
fn good() -> (Vec<u8>, usize) {
    let (bytes, signed) = write(header(), &parts(), &[key(1)]).unwrap();
    let records = 16 + signed.bytes().len();
    (bytes, records)
}

/// The same with a hash tree that follows from its root.
fn hashed() -> (Vec<u8>, usize) {
    let (bytes, signed) = write(header(), &tree_parts(), &[key(1)]).unwrap();
    let records = 16 + signed.bytes().len();
    (bytes, records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn a_broken_file_is_refused_or_whole(all in proptest::collection::vec(damage(), 1..4)) {
        let (mut bytes, _) = GOOD.with(Clone::clone);
        all.iter().for_each(|damage| apply(&mut bytes, damage));
        if let Ok(taken) = take(&bytes, &trusted(), BUILT_AT) {
            prop_assert_eq!(taken, parts());
        }
    }

    #[test]
    fn a_broken_head_is_refused_or_was_signed(all in proptest::collection::vec(damage(), 1..4)) {
        let (bytes, records) = GOOD.with(Clone::clone);
        let mut head = bytes[16..records].to_vec();
        all.iter().for_each(|damage| apply(&mut head, damage));
        if let Ok(signed) = SignedManifest::parse(&head)
            && signed.verify(&trusted(), BUILT_AT).is_ok()
        {
            let original = SignedManifest::parse(&bytes[16..records]).unwrap();
            prop_assert_eq!(signed.text(), original.text());
        }
    }

    /// What a forger with a key of his own can say: the head is well signed, the numbers are not.
    #[test]
    fn any_numbers_in_a_manifest_are_read_or_refused(
        numbers in proptest::collection::vec((any::<Index>(), number()), 1..4), has_tree in any::<bool>(),
    ) {
        let (bytes, records) = if has_tree { HASHED.with(Clone::clone) } else { GOOD.with(Clone::clone) };
        let mut text = SignedManifest::parse(&bytes[16..records]).unwrap().text().to_owned();
        for (at, number) in numbers {
            let places: Vec<(usize, usize)> = digits(&text);
            let (from, to) = places[at.index(places.len())];
            text.replace_range(from..to, &number);
        }
        let signature = key(1).sign(&text);
        let envelope = serde_json::json!({
            "manifest": text,
            "signatures": [{ "key": key(1).public().id(), "signature": signature }],
        });
        let envelope = serde_json::to_vec(&envelope).unwrap();
        let file_bytes = [&bytes[..12], &(envelope.len() as u32).to_le_bytes(), &envelope, &bytes[records..]].concat();
        if let Ok(update) = UpdateFile::open(file(&file_bytes).path()) {
            prop_assert!(update.manifest().verify(&trusted(), u64::MAX).is_err() || update.manifest().peek().expires_at.is_none());
            let manifest = update.manifest().peek();
            let sum: u64 = manifest.parts.iter().flat_map(|part| &part.chunks).map(|chunk| u64::from(chunk.size)).sum();
            prop_assert_eq!(sum, manifest.total_bytes());
            let _ = update.verify_all();
        }
    }
}

thread_local! {
    static GOOD: (Vec<u8>, usize) = good();
    static HASHED: (Vec<u8>, usize) = hashed();
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        (0..300_000_u64).prop_map(|number| number.to_string()),
        prop_oneof![Just("-1"), Just("0"), Just("1e999"), Just("18446744073709551616"), Just("0.5"), Just("null"), Just("\"\"")]
            .prop_map(str::to_owned),
    ]
}

/// Where the numbers of a JSON text stand: runs of digits after a colon.
fn digits(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let starts = (1..bytes.len()).filter(|at| bytes[*at].is_ascii_digit() && bytes[at - 1] == b':');
    starts.map(|start| (start, start + bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count())).collect()
}
