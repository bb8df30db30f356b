//! Pages of a bbolt file: a head of 16 bytes, then one entry of 16 bytes for each element, then their keys and values. Numbers are as the
//! machine has them, which is little-endian wherever Corten runs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::{DatabaseError, Result};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// Flag of an element that is a bucket.
const IS_BUCKET: u32 = 1;
/// A bucket's value: the page where its tree begins, a counter, and where that page is 0 a page of its own.
const BUCKET_BYTES: usize = 16;
/// Page sizes that operating systems have.
const PAGE_BYTES: std::ops::RangeInclusive<u64> = 1024..=65536;
const OVERFLOW_MAX: u64 = 1 << 20;

/// What stands at the beginning of the file, twice: the newer one that is whole counts.
#[derive(Debug)]
pub struct Meta {
    pub page_bytes: u64,
    pub root: u64,
    pub pages: u64,
    transaction: u64,
}

/// A page, and where it lies in the file.
#[derive(Debug, Clone)]
pub struct Page {
    offset: u64,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub enum Bucket {
    /// So small that it stands where its root would.
    Inline(Page),
    /// Number of its first page.
    Tree(u64),
}

/// An element of a leaf: where its key and value begin in the page, and their lengths.
#[derive(Debug)]
pub struct Element {
    is_bucket: bool,
    key: (usize, usize),
    value: (usize, usize),
}

/// A stretch of the file.
#[derive(Debug)]
pub struct Place {
    pub offset: u64,
    pub length: usize,
}

pub fn meta(file: &File) -> Result<Meta> {
    let first = meta_at(file, 0);
    let page_bytes = first.as_ref().map_or(4096, |meta| meta.page_bytes);
    let metas = [first, meta_at(file, page_bytes)];
    let newest = metas.into_iter().flatten().max_by_key(|meta| meta.transaction);
    newest.ok_or(DatabaseError::Foreign("it does not begin as one"))
}

fn meta_at(file: &File, offset: u64) -> Option<Meta> {
    let mut bytes = [0; 80];
    file.read_exact_at(&mut bytes, offset).ok()?;
    let body = &bytes[HEAD_BYTES..];
    let whole = u32_at(body, 0).ok()? == MAGIC && u32_at(body, 4).ok()? == VERSION && u64_at(body, 56).ok()? == fnv1a(&body[..56]);
    let page_bytes = u64::from(u32_at(body, 8).ok()?);
    (whole && PAGE_BYTES.contains(&page_bytes)).then_some(Meta {
        page_bytes,
        root: u64_at(body, 16).ok()?,
        pages: u64_at(body, 40).ok()?,
        transaction: u64_at(body, 48).ok()?,
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Page {
    pub fn read(file: &File, number: u64, page_bytes: u64) -> Result<Page> {
        let offset = number.checked_mul(page_bytes).ok_or_else(|| damaged("a page lies nowhere"))?;
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, offset)?;
        let overflow = u64::from(u32_at(&head, 12)?);
        if u64_at(&head, 0)? != number || overflow > OVERFLOW_MAX {
            return Err(damaged(format!("page {number} is none")));
        }
        let mut bytes = vec![0; usize::try_from((overflow + 1) * page_bytes).map_err(|_| damaged("a page is too long"))?];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(Page { offset, bytes })
    }

    pub fn is_leaf(&self) -> Result<bool> {
        match u16_at(&self.bytes, 8)? {
            LEAF => Ok(true),
            BRANCH => Ok(false),
            kind => Err(damaged(format!("a page of kind {kind} where a tree should go on"))),
        }
    }

    pub fn count(&self) -> usize {
        u16_at(&self.bytes, 10).map_or(0, usize::from)
    }

    pub fn element(&self, index: usize) -> Result<Element> {
        let entry = HEAD_BYTES + index * ENTRY_BYTES;
        let field = |number: usize| u32_at(&self.bytes, entry + 4 * number);
        let (flags, start) = (field(0)?, entry + field(1)? as usize);
        let (key, value) = (field(2)? as usize, field(3)? as usize);
        Ok(Element { is_bucket: flags & IS_BUCKET != 0, key: (start, key), value: (start + key, value) })
    }

    pub fn key(&self, element: &Element) -> Result<&[u8]> {
        self.part(element.key)
    }

    pub fn value(&self, element: &Element) -> Result<&[u8]> {
        self.part(element.value)
    }

    pub fn place_of_key(&self, element: &Element) -> Result<Place> {
        self.place(element.key)
    }

    pub fn place_of_value(&self, element: &Element) -> Result<Place> {
        self.place(element.value)
    }

    pub fn bucket(&self, element: &Element) -> Result<Bucket> {
        let value = self.value(element)?;
        if !element.is_bucket || value.len() < BUCKET_BYTES {
            return Err(damaged("a bucket is none"));
        }
        Ok(match u64_at(value, 0)? {
            0 => Bucket::Inline(Page {
                offset: self.place(element.value)?.offset + BUCKET_BYTES as u64,
                bytes: value[BUCKET_BYTES..].to_vec(),
            }),
            root => Bucket::Tree(root),
        })
    }

    /// Of a branch: the last page whose first key is not beyond this one.
    pub fn child_of(&self, key: &[u8]) -> Result<u64> {
        let mut child = self.child(0)?.1;
        for index in 1..self.count() {
            let (first, number) = self.child(index)?;
            if self.part(first)? > key {
                break;
            }
            child = number;
        }
        Ok(child)
    }

    pub fn last_child(&self) -> Result<u64> {
        Ok(self.child(self.count().saturating_sub(1))?.1)
    }

    /// Where its first key stands in this page, and its number.
    fn child(&self, index: usize) -> Result<((usize, usize), u64)> {
        let entry = HEAD_BYTES + index * ENTRY_BYTES;
        if index >= self.count() {
            return Err(damaged("a branch without leaves"));
        }
        let start = entry + u32_at(&self.bytes, entry)? as usize;
        Ok(((start, u32_at(&self.bytes, entry + 4)? as usize), u64_at(&self.bytes, entry + 8)?))
    }

    /// Where the page says what it is and how much is on it.
    pub fn place_of_kind(&self) -> u64 {
        self.offset + 8
    }

    pub fn emptied_kind_and_count(&self) -> [u8; 4] {
        let [low, high] = LEAF.to_le_bytes();
        [low, high, 0, 0]
    }

    fn part(&self, (start, length): (usize, usize)) -> Result<&[u8]> {
        self.bytes.get(start..).and_then(|rest| rest.get(..length)).ok_or_else(|| damaged("a key or value lies beyond its page"))
    }

    fn place(&self, part: (usize, usize)) -> Result<Place> {
        self.part(part)?;
        Ok(Place { offset: self.offset + part.0 as u64, length: part.1 })
    }
}

fn damaged(what: impl Into<String>) -> DatabaseError {
    DatabaseError::Damaged(what.into())
}

fn at<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    let part = bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>());
    part.copied().ok_or_else(|| damaged("a page ends too early"))
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16> {
    at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32> {
    at(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64> {
    at(bytes, offset).map(u64::from_le_bytes)
}
