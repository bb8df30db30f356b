//! What is written is read.

use std::path::Path;

use proptest::prelude::*;
use update::{PartName, Progress, UpdateFile, WriteError};

use crate::sample::{BUILT_AT, Parts, file, hash_tree, header, key, letters, parts, take, tree_parts, trusted, write};

#[test]
fn parts_come_out_as_they_went_in() {
    let (bytes, signed) = write(header(), &parts(), &[key(1)]).unwrap();
    assert_eq!(take(&bytes, &trusted(), BUILT_AT).unwrap(), parts());
    let on_disk = file(&bytes);
    let update = UpdateFile::open(on_disk.path()).unwrap();
    assert_eq!(update.manifest(), &signed);
    let chunks = signed.peek().distinct_chunks();
    assert_eq!(chunks.len(), 4, "zeros once, the rest of the root, verity, UKI");
    for chunk in &chunks {
        let data = update.compressed(&chunk.sha256).unwrap().unwrap();
        assert_eq!(update.compressed_bytes(&chunk.sha256), Some(data.len() as u32));
        assert_eq!(update::decompress(&data, chunk).unwrap().len(), chunk.size as usize);
    }
    assert_eq!(update.compressed(&signed.id()).unwrap(), None);
}

#[test]
fn the_same_input_gives_the_same_file() {
    assert_eq!(write(header(), &parts(), &[key(1)]).unwrap(), write(header(), &parts(), &[key(1)]).unwrap());
}

#[test]
fn a_file_is_signed_again_without_its_parts() {
    let (bytes, signed) = write(header(), &parts(), &[key(1)]).unwrap();
    let on_disk = file(&bytes);
    let update = UpdateFile::open(on_disk.path()).unwrap();
    let elsewhere = (key(3).public(), key(3).sign(signed.text()));
    let mut again = Vec::new();
    let head = update.copy_signed(&mut again, &[key(2)], [elsewhere]).unwrap();
    assert_eq!(head.id(), signed.id());
    let mut keys = trusted();
    for seed in [1, 2, 3] {
        keys.keys = vec![key(seed).public()];
        assert_eq!(take(&again, &keys, BUILT_AT).unwrap(), parts(), "key {seed}");
    }
    assert_eq!(write(header(), &parts(), &[key(1), key(2), key(3)]).unwrap().0, again);
}

#[test]
fn progress_ends_with_everything() {
    let directory = tempfile::tempdir().unwrap();
    let paths = PartName::ALL.map(|name| directory.path().join(name.name()));
    // More than one batch of chunks.
    let contents = [letters(4, 8 * 1024 * 1024), letters(5, 10), letters(6, 10)];
    paths.iter().zip(&contents).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    let named: Vec<(PartName, &Path)> = PartName::ALL.into_iter().zip(paths.iter().map(|path| path.as_path())).rev().collect();
    let mut seen = Vec::new();
    update::write(std::io::sink(), header(), &named, &[key(1)], 1, |progress| seen.push(progress)).unwrap();
    assert!(seen.len() > 1 && seen.is_sorted_by_key(|progress| progress.done_bytes), "{seen:?}");
    let total_bytes = 8 * 1024 * 1024 + 20;
    assert_eq!(seen.last(), Some(&Progress { done_bytes: total_bytes, total_bytes }));
}

#[test]
fn what_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("part");
    std::fs::write(&path, b"bytes").unwrap();
    let error =
        |named: &[(PartName, &Path)]| update::write(std::io::sink(), header(), named, &[key(1)], 1, |_| {}).unwrap_err().to_string();
    let [root, verity, uki] = PartName::ALL.map(|name| (name, path.as_path()));
    let lacks = |part: &str| format!("the part {part} is missing: an update has root, verity and uki, each once");
    assert_eq!(error(&[root, uki]), lacks("verity"));
    assert_eq!(error(&[root, verity, uki, uki]), lacks("uki"));
    let missing = directory.path().join("missing");
    assert_eq!(error(&[(PartName::Root, &missing), verity, uki]), format!("reading {}", missing.display()));

    let empty: Parts = [b"root".to_vec(), Vec::new(), b"uki".to_vec()];
    let error = write(header(), &empty, &[key(1)]).unwrap_err();
    assert_eq!(error.to_string(), "manifest: parts[1].sizeBytes: 0; expected 1 to 1073741824");
    let mut small = header();
    small.slot_bytes = 1;
    assert!(matches!(write(small, &parts(), &[key(1)]), Err(WriteError::Manifest(_))));

    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = update::write(Full, header(), &[root, verity, uki], &[key(1)], 1, |_| {}).unwrap_err();
    assert!(matches!(error, WriteError::Write(source) if source.kind() == std::io::ErrorKind::StorageFull));
}

#[test]
fn a_hash_tree_is_told_where_it_follows_from_the_root() {
    let told = |parts: &Parts| write(header(), parts, &[key(1)]).unwrap().1.peek().hash_tree.clone();
    let good = tree_parts();
    assert_eq!(told(&good), Some(hash_tree()));
    // One byte of it, or of the root.
    for (part, at) in [(1, 0), (1, 600), (1, 4096), (1, 16_383), (0, 100)] {
        let mut parts = good.clone();
        parts[part][at] ^= 1;
        assert_eq!(told(&parts), None, "{part} at {at}");
    }
    // A block more or less of either.
    let mut parts = good.clone();
    parts[1].extend([0; 4096]);
    assert_eq!(told(&parts), None);
    let mut parts = good.clone();
    parts[0].truncate(good[0].len() - 4096);
    assert_eq!(told(&parts), None);
    let mut parts = good;
    parts[0].push(0);
    assert_eq!(told(&parts), None);
}

/// A reader of before finds every chunk where it looks for it; one of now needs none of the tree, but for what stands elsewhere as well.
#[test]
fn a_hash_tree_is_in_the_file_and_not_needed() {
    let parts = tree_parts();
    let (bytes, signed) = write(header(), &parts, &[key(1)]).unwrap();
    assert_eq!(take(&bytes, &trusted(), BUILT_AT).unwrap(), parts);
    let mut manifest = signed.peek().clone();
    let tree = manifest.parts[1].chunks.clone();
    let needed = manifest.needed_chunks();
    let all: Vec<update::Chunk> = manifest.distinct_chunks().into_iter().filter(|chunk| !tree.contains(chunk)).collect();
    assert_eq!(needed, all);
    let names: Vec<PartName> = manifest.needed_parts().map(|part| part.name).collect();
    assert_eq!(names, [PartName::Root, PartName::Uki]);
    manifest.parts[2].chunks.push(tree[0]);
    assert_eq!(manifest.needed_chunks().last(), Some(&tree[0]));
    manifest.hash_tree = None;
    assert_eq!(manifest.needed_chunks(), manifest.distinct_chunks());
}

/// As it goes over the API: the machine says what it lacks, and gets it as patches of what it runs.
#[test]
fn a_machine_is_brought_from_one_image_to_the_next_by_patches() {
    let old: Parts = [letters(7, 1_000_000), letters(8, 300_000), letters(9, 10_000)];
    let mut new = old.clone();
    // A byte here and there, and something in between that moves the rest.
    new.iter_mut().for_each(|part| (0..part.len()).step_by(5000).for_each(|at| part[at] = b'!'));
    new[0].splice(500_000..500_000, letters(10, 40_000));
    let [old_file, new_file] = [&old, &new].map(|parts| file(&write(header(), parts, &[key(1)]).unwrap().0));
    let [old_update, new_update] = [&old_file, &new_file].map(|file| UpdateFile::open(file.path()).unwrap());
    let bases = update::bases(old_update.manifest().peek(), new_update.manifest().peek());

    let manifest = new_update.manifest().peek();
    let (mut whole, mut sent) = (0, 0);
    for (part, bytes) in manifest.parts.iter().zip(&new) {
        for (offset, chunk) in part.placed_chunks() {
            let base = &bases[&chunk.sha256];
            let from =
                &old[PartName::ALL.iter().position(|name| *name == base.part).unwrap()][base.offset as usize..][..base.length as usize];
            assert_eq!(old_update.stretch(base).unwrap(), from, "the client reads from the file what the machine reads from its slot");
            let patch = new_update.patch(chunk, &old_update, base, 3).unwrap();
            let got = update::decompress_from(from, &patch, chunk).unwrap();
            assert_eq!(got, bytes[offset as usize..][..chunk.size as usize]);
            whole += new_update.compressed_bytes(&chunk.sha256).unwrap() as usize;
            sent += patch.len();
        }
    }
    assert!(sent * 5 < whole, "{sent} bytes as patches, {whole} without");
}

/// Stretches of one byte, of letters, and of what came before.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let stretch = prop_oneof![
        (any::<u8>(), 1..400_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        (0..4_u64, 1..400_000_usize).prop_map(|(seed, count)| letters(seed, count)),
    ];
    proptest::collection::vec(stretch, 1..4).prop_map(|stretches| stretches.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_parts_come_out_as_they_went_in(root in part(), verity in part(), uki in part()) {
        let parts = [root, verity, uki];
        let (bytes, signed) = write(header(), &parts, &[key(1)]).unwrap();
        prop_assert_eq!(&take(&bytes, &trusted(), BUILT_AT).unwrap(), &parts);
        let manifest = signed.peek();
        for (part, bytes) in manifest.parts.iter().zip(&parts) {
            for (offset, chunk) in part.placed_chunks() {
                let piece = &bytes[offset as usize..][..chunk.size as usize];
                prop_assert_eq!(update::Digest::of(piece), chunk.sha256);
            }
        }
    }
}
