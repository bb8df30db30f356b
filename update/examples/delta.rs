//! What chunks of several average sizes cost between two similar files: `cargo run --release -p update --example delta OLD NEW [LEVEL]`.
//! docs/update-file.md has what it said about two kernels.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};

use fastcdc::v2020::StreamCDC;
use update::{Digest, compress};

/// Bytes that one chunk takes beside its content: its line in the manifest, in quotes, and the head of its record.
const LINE_BYTES: u64 = 101;
const RECORD_HEAD_BYTES: u64 = 36;

/// The distinct chunks of a file and their contents.
fn chunks(path: &str, average: usize) -> io::Result<(usize, HashMap<Digest, Vec<u8>>)> {
    let mut count = 0;
    let mut chunks = HashMap::new();
    for piece in StreamCDC::new(File::open(path)?, average / 4, average, average * 4) {
        let bytes = piece?.data;
        count += 1;
        chunks.insert(Digest::of(&bytes), bytes);
    }
    Ok((count, chunks))
}

/// Bytes of all of them, compressed one by one on two threads.
fn compressed(chunks: &[&Vec<u8>], level: i32) -> io::Result<u64> {
    let sum = |chunks: &[&Vec<u8>]| chunks.iter().map(|bytes| Ok(compress(bytes, level)?.len() as u64)).sum::<io::Result<u64>>();
    let (one, two) = chunks.split_at(chunks.len() / 2);
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
    let mut whole = zstd::stream::Encoder::new(Count(0), level)?;
    whole.long_distance_matching(true)?;
    io::copy(&mut File::open(new)?, &mut whole)?;
    let Count(whole) = whole.finish()?;
    println!("{new}: {} bytes; compressed whole {whole} bytes, level {level}", std::fs::metadata(new)?.len());
    println!("| average | chunks | full | of whole | missing chunks | delta | of whole | manifest lines |");
    println!("|---|---|---|---|---|---|---|---|");
    for average in [16, 32, 64, 128, 256] {
        let (_, known) = chunks(old, average * 1024)?;
        let (count, wanted) = chunks(new, average * 1024)?;
        let missing: Vec<&Vec<u8>> = wanted.iter().filter(|(digest, _)| !known.contains_key(*digest)).map(|(_, bytes)| bytes).collect();
        let lines = count as u64 * LINE_BYTES;
        let size =
            |contents: &[&Vec<u8>]| Ok::<_, io::Error>(compressed(contents, level)? + contents.len() as u64 * RECORD_HEAD_BYTES + lines);
        let (full, delta) = (size(&wanted.values().collect::<Vec<_>>())?, size(&missing)?);
        let percent = |part: u64| part as f64 * 100.0 / whole as f64;
        println!(
            "| {average} KiB | {count} | {full} | {:.1} % | {} | {delta} | {:.1} % | {lines} |",
            percent(full),
            missing.len(),
            percent(delta)
        );
        io::stdout().flush()?;
    }
    Ok(())
}

/// Counts what is written to it.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
