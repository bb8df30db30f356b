use proptest::prelude::*;

use super::sections::{NAMES, put_number, put_signed};
use super::*;

/// Functions that call each other by displacements, laid one after the other with `padding` bytes of room in front of one of them.
fn program(grown: usize, padding: usize) -> Vec<u8> {
    const FUNCTIONS: usize = 300;
    const LENGTH: usize = 200;
    let start = |function: usize| function * LENGTH + if function >= grown { padding } else { 0 };
    let mut bytes = vec![0x90; FUNCTIONS * LENGTH + padding];
    let mut random = 7_u32;
    for function in 0..FUNCTIONS {
        for call in 0..20 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = start(function) + call * 10;
            let target = start(random as usize / 7 % FUNCTIONS) as i32;
            bytes[at] = 0xe8;
            bytes[at + 1..][..4].copy_from_slice(&(target - (at as i32 + 5)).to_le_bytes());
            // What only this place has, and what decides nothing: no opcode of ours is below 0x20 but those that the table has.
            bytes[at + 5..][..4].copy_from_slice(&random.to_le_bytes().map(|byte| 0xa0 | byte & 7));
        }
    }
    bytes
}

#[test]
fn references_to_what_moved_are_guessed() {
    let (old, new) = (program(0, 0), program(150, 64));
    let patch = make(&old, &new, 19).unwrap().unwrap();
    assert_eq!(apply(&old, &patch, new.len()).unwrap(), new);
    let payload = sections::unpack(&patch, new.len()).unwrap();
    let Sections { mut codes, .. } = Sections::split(&payload).unwrap();
    let mut numbers = [0; 256];
    while !codes.is_empty() {
        numbers[usize::from(codes.byte().unwrap())] += 1;
    }
    assert!(numbers[0] > 5900, "of 6000 calls {} are guessed", numbers[0]);
    let prefixed = super::super::prefixed(&old, &new, 19).unwrap();
    assert!(patch.len() * 10 < prefixed.len(), "{} bytes; by zstd alone {}", patch.len(), prefixed.len());
}

#[test]
fn places_of_displacements() {
    let found = |bytes: &[u8]| places(bytes).collect::<Vec<_>>();
    assert_eq!(found(b"\x90\xe8\x01\x02\x03\x04\xe9\x01\x02\x03\x04"), [2, 7], "call and jmp");
    assert_eq!(found(b"\x0f\x84\x01\x02\x03\x04\x0f\x1f\x00"), [2], "je");
    assert_eq!(found(b"\x48\x8d\x05\x01\x02\x03\x04"), [3], "lea of an address");
    assert_eq!(found(b"\x48\x8d\x45\x01\x02\x03\x04"), [0; 0], "lea of a place on the stack");
    assert_eq!(found(b"\xe8\xe8\xe8\xe8\xe8\xe8\xe8\xe8\xe8"), [1], "none begins within another, none without an end");
    assert_eq!(found(b"\xe8\x01\x02\x03"), [0; 0]);
}

/// What is written here is what docs/update-file.md says.
#[test]
fn bytes_of_a_patch() {
    let base = b"0123456789\xe8\x00\x01\x00\x00abcdef";
    // Two literals; ten bytes and a reference that is farther by 2, for which nothing is known; the last two.
    let instructions = [2, 16, 2 * 5];
    let differences = [0, 0, 0, 0, 0, 0, 0, 1, 255, 0, 0, 0];
    let sections: [&[u8]; 5] = [&instructions, &differences, &[255], &[4], b"<>!?"];
    let mut payload: Vec<u8> = sections.iter().map(|section| section.len() as u8).collect();
    payload.extend(sections.concat());
    let wrapped = |payload: &[u8]| [&[FORM][..], &zstd::bulk::compress(payload, 3).unwrap()].concat();
    assert_eq!(apply(base, &wrapped(&payload), 20).unwrap(), b"<>56789\xe8\x02\x01\x00\x00acbdef!?");
}

#[test]
fn short_bases_and_chunks() {
    for base in [&b""[..], b"a", b"\xe8", b"ab", &[0; 17]] {
        for bytes in [&b"a"[..], b"\xe8", b"ba", b"abab", &[0; 33]] {
            let patch = make(base, bytes, 1).unwrap().unwrap();
            assert_eq!(apply(base, &patch, bytes.len()).unwrap(), bytes, "{base:?}");
        }
    }
}

/// Each section may be anything.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let section = prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), proptest::collection::vec(0..6_u8, 0..40)];
    (proptest::collection::vec(section, NAMES.len()), proptest::option::of(0..500_u32)).prop_map(|(sections, lie)| {
        let mut payload = Vec::new();
        sections.iter().for_each(|section| put_number(&mut payload, lie.unwrap_or(section.len() as u32)));
        payload.extend(sections.concat());
        [&[FORM][..], &zstd::bulk::compress(&payload, 1).unwrap()].concat()
    })
}

#[test]
fn numbers_come_out_as_they_went_in() {
    for number in [0, 1, -1, 63, -64, 64, i32::MAX, i32::MIN] {
        let mut bytes = Vec::new();
        put_signed(&mut bytes, number);
        let payload = [&[bytes.len() as u8, 0, 0, 0, 0][..], &bytes].concat();
        let mut section = Sections::split(&payload).unwrap().instructions;
        assert_eq!(section.signed().unwrap(), number);
        section.end().unwrap();
    }
    let long = [&[5, 0, 0, 0, 0][..], &[0xff; 5]].concat();
    let error = Sections::split(&long).unwrap().instructions.number().unwrap_err();
    assert_eq!(error.to_string(), "its instructions have a number that is too large");
}

proptest! {
    #[test]
    fn whatever_comes_is_applied_or_refused(base in proptest::collection::vec(any::<u8>(), 0..100), patch in hostile(), size in 1..100_usize) {
        if let Ok(bytes) = apply(&base, &patch, size) {
            prop_assert_eq!(bytes.len(), size);
        }
    }

    /// Bytes among which there are many that are taken for references.
    #[test]
    fn any_chunk_comes_out_of_any_base(
        base in proptest::collection::vec(prop_oneof![Just(0xe8), Just(0x8b), Just(0x05), 0..3_u8, any::<u8>()], 0..2000),
        cut in any::<proptest::sample::Index>(),
        more in proptest::collection::vec(any::<u8>(), 1..100),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..20),
    ) {
        let cut = cut.index(base.len() + 1);
        let mut bytes = [&base[cut..], &more, &base[..cut]].concat();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(patch) = make(&base, &bytes, 1).unwrap() {
            prop_assert_eq!(apply(&base, &patch, bytes.len()).unwrap(), bytes);
        }
    }
}
