//! Makes the hash tree that VERITY has of ROOT again, compares it, and says how long making it took:
//! `cargo run --release -p update --example hash_tree ROOT VERITY`. docs/benchmarks.md has what it said.

use std::fs::File;
use std::time::Instant;

use machine::verity::{SUPERBLOCK_BYTES, Superblock};
use update::HashTree;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, verity] = &arguments[..] else { return Err("usage: hash_tree ROOT VERITY".into()) };
    let (size, wanted) = (std::fs::metadata(root)?.len(), std::fs::read(verity)?);
    let head: &[u8; SUPERBLOCK_BYTES] = wanted.first_chunk().ok_or("no superblock")?;
    let tree = HashTree::of(Superblock::parse(head)?);
    // The second time the root is in the cache.
    for _ in 0..5 {
        let began = Instant::now();
        let mut blocks = tree.blocks(File::open(root)?, size)?;
        let mut made = vec![0; HashTree::size_bytes(size)? as usize];
        for block in &mut blocks {
            let (offset, block) = block?;
            made[offset as usize..][..block.len()].copy_from_slice(&block);
        }
        let seconds = began.elapsed().as_secs_f64();
        if made != wanted {
            return Err("it is another tree".into());
        }
        let hash = blocks.root_hash().ok_or("no root hash")?;
        println!("{:.1} MB in {seconds:.3} s: {:.0} MB/s; root hash {hash}", size as f64 / 1e6, size as f64 / 1e6 / seconds);
    }
    Ok(())
}
