//! What is sent to a machine that has the file OLD and shall get NEW, with chunks of several average sizes, without and with patches:
//! `cargo run --release -p update --example delta OLD NEW [LEVEL]`. docs/update-file.md has what it said about two kernels.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use fastcdc::v2020::FastCDC;
use update::{Base, Chunk, Digest, Manifest, Part, PartName, bases, compress, compress_from};

/// Bytes that one chunk takes beside its content: its line in the manifest, in quotes, and the head of its record.
const LINE_BYTES: u64 = 101;
const RECORD_HEAD_BYTES: u64 = 36;

/// The file as the root of an image.
fn image(bytes: &[u8], average: usize) -> Manifest {
    let chunk = |piece: fastcdc::v2020::Chunk| {
        let bytes = &bytes[piece.offset..][..piece.length];
        Chunk { sha256: Digest::of(bytes), size: bytes.len() as u32 }
    };
    let chunks = FastCDC::new(bytes, average / 4, average, average * 4).map(chunk).collect();
    let part = Part { name: PartName::Root, size_bytes: bytes.len() as u64, sha256: Digest::of(bytes), chunks };
    Manifest {
        format_version: update::FORMAT_VERSION,
        version: update::Version::new(0, 0, 0),
        profile: "measured".into(),
        architecture: "x86_64".into(),
        minimum_version: update::Version::new(0, 0, 0),
        kubernetes: None,
        kernel_release: "measured".into(),
        built_at: 0,
        config_versions: Vec::new(),
        expires_at: None,
        release_notes: String::new(),
        root_hash: part.sha256,
        hash_tree: None,
        slot_bytes: part.size_bytes,
        parts: vec![part],
    }
}

/// Bytes of all records, made by two threads.
fn records<T: Sync>(pieces: &[T], compress: impl Fn(&T) -> io::Result<Vec<u8>> + Sync) -> io::Result<u64> {
    let sum = |pieces: &[T]| pieces.iter().map(|piece| Ok(compress(piece)?.len() as u64 + RECORD_HEAD_BYTES)).sum::<io::Result<u64>>();
    let (one, two) = pieces.split_at(pieces.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| sum(two));
        Ok(sum(one)? + other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (old, new, level) = match &arguments[..] {
        [old, new] => (old, new, 19),
        [old, new, level] => (old, new, level.parse()?),
        _ => return Err("usage: delta OLD NEW [LEVEL]".into()),
    };
    let (old, new) = (std::fs::read(old)?, std::fs::read(new)?);
    let whole = zstd::bulk::compress(&new, level)?.len() as u64;
    println!("{} bytes; compressed as one piece {whole}, level {level}", new.len());
    println!(
        "| average | chunks | manifest | whole update | missing chunks | sent | of whole update | sent as patches | of whole update |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for average in [32, 64, 128] {
        let (from, to) = (image(&old, average * 1024), image(&new, average * 1024));
        let part = &to.parts[0];
        let places: HashMap<Digest, &[u8]> =
            part.placed_chunks().map(|(offset, chunk)| (chunk.sha256, &new[offset as usize..][..chunk.size as usize])).collect();
        let known: HashSet<Digest> = from.parts[0].chunks.iter().map(|chunk| chunk.sha256).collect();
        let distinct: Vec<&[u8]> = places.values().copied().collect();
        let missing: Vec<&[u8]> = places.iter().filter(|(digest, _)| !known.contains(*digest)).map(|(_, bytes)| *bytes).collect();
        let patches: Vec<(Digest, Base)> = bases(&from, &to).into_iter().collect();
        if patches.len() != missing.len() {
            return Err(format!("{} missing chunks, but {} bases", missing.len(), patches.len()).into());
        }
        let lines = part.chunks.len() as u64 * LINE_BYTES;
        let full = records(&distinct, |bytes| compress(bytes, level))? + lines;
        let sent = records(&missing, |bytes| compress(bytes, level))? + lines;
        let patched =
            records(&patches, |(digest, base)| compress_from(&old[base.offset as usize..][..base.length as usize], places[digest], level))?
                + lines;
        let percent = |bytes: u64| bytes as f64 * 100.0 / full as f64;
        println!(
            "| {average} KiB | {} | {lines} | {full} | {} | {sent} | {:.1} % | {patched} | {:.1} % |",
            part.chunks.len(),
            missing.len(),
            percent(sent),
            percent(patched)
        );
        io::stdout().flush()?;
    }
    Ok(())
}
