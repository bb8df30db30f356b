//! A hash tree in the making: the root is read once, and each block of the tree is told as soon as all is known that it holds.

use std::collections::VecDeque;
use std::io::{self, Read};

use machine::verity::{BLOCK_BYTES, Superblock};

use crate::digest::{Digest, Sha256};

const BLOCK: usize = BLOCK_BYTES as usize;
/// SHA-256 digests in a block.
const FANOUT: u64 = BLOCK_BYTES as u64 / 32;

/// The blocks of a tree, each with its offset in it, in no order that counts: the superblock's first, the top one last. An error of the reader ends it.
#[derive(Debug)]
pub struct TreeBlocks<R> {
    root: R,
    /// Blocks of the root that are still to be read.
    left: u64,
    /// Has taken the salt.
    salted: Sha256,
    /// From the bottom up. In the file the top one comes first, right behind the superblock.
    levels: Vec<Level>,
    ready: VecDeque<(u64, Vec<u8>)>,
    buffer: Vec<u8>,
    root_hash: Option<Digest>,
}

#[derive(Debug)]
struct Level {
    /// Of the block that is being filled.
    offset: u64,
    digests: Vec<u8>,
}

/// Blocks of each level, from the bottom up: one digest for each block below, and a single one at the top.
fn levels(data_blocks: u64) -> Vec<u64> {
    let mut levels = vec![data_blocks.div_ceil(FANOUT)];
    while let Some(below) = levels.last().copied().filter(|below| *below > 1) {
        levels.push(below.div_ceil(FANOUT));
    }
    levels
}

pub fn size_bytes(data_blocks: u64) -> u64 {
    (1 + levels(data_blocks).iter().sum::<u64>()) * u64::from(BLOCK_BYTES)
}

impl<R: Read> TreeBlocks<R> {
    pub(super) fn new(root: R, superblock: &Superblock) -> TreeBlocks<R> {
        let mut next = u64::from(BLOCK_BYTES);
        let place = |blocks: u64| {
            let offset = next;
            next += blocks * u64::from(BLOCK_BYTES);
            Level { offset, digests: Vec::with_capacity(BLOCK) }
        };
        let mut levels: Vec<Level> = levels(superblock.data_blocks).into_iter().rev().map(place).collect();
        levels.reverse();
        let mut salted = Sha256::default();
        salted.update(&superblock.salt);
        let mut first = superblock.to_bytes().to_vec();
        first.resize(BLOCK, 0);
        TreeBlocks {
            root,
            left: superblock.data_blocks,
            salted,
            levels,
            ready: VecDeque::from([(0, first)]),
            buffer: vec![0; FANOUT as usize * BLOCK],
            root_hash: None,
        }
    }

    /// That of the top block; none before that was told.
    pub fn root_hash(&self) -> Option<Digest> {
        self.root_hash.filter(|_| self.ready.is_empty())
    }

    /// Reads what one block of the bottom holds the digests of.
    fn read(&mut self) -> io::Result<()> {
        let count = self.left.min(FANOUT);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.truncate(count as usize * BLOCK);
        self.root.read_exact(&mut buffer)?;
        for block in buffer.chunks_exact(BLOCK) {
            let digest = self.digest(block);
            self.add(0, digest);
        }
        self.buffer = buffer;
        self.left -= count;
        if self.left == 0 {
            // What is full is told already; of the others each is the last of its level.
            for level in 0..self.levels.len() {
                self.close(level);
            }
        }
        Ok(())
    }

    fn digest(&self, block: &[u8]) -> Digest {
        let mut hash = self.salted.clone();
        hash.update(block);
        hash.finish()
    }

    fn add(&mut self, level: usize, digest: Digest) {
        match self.levels.get_mut(level) {
            None => self.root_hash = Some(digest),
            Some(known) => {
                known.digests.extend_from_slice(&digest.0);
                if known.digests.len() == BLOCK {
                    self.close(level);
                }
            }
        }
    }

    /// Tells a level's block, filled up with zeros, unless nothing is in it.
    fn close(&mut self, level: usize) {
        let Some(known) = self.levels.get_mut(level).filter(|level| !level.digests.is_empty()) else { return };
        let mut block = std::mem::take(&mut known.digests);
        block.resize(BLOCK, 0);
        let offset = known.offset;
        known.offset += u64::from(BLOCK_BYTES);
        let digest = self.digest(&block);
        self.ready.push_back((offset, block));
        self.add(level + 1, digest);
    }
}

impl<R: Read> Iterator for TreeBlocks<R> {
    type Item = io::Result<(u64, Vec<u8>)>;

    fn next(&mut self) -> Option<io::Result<(u64, Vec<u8>)>> {
        while self.ready.is_empty() && self.left > 0 {
            if let Err(error) = self.read() {
                self.left = 0;
                return Some(Err(error));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
