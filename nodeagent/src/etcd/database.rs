//! etcd's database file, as far as a restore looks into it and changes it: a file of bbolt's (its format is described in bbolt's
//! internal/common/page.go, inode.go and meta.go) with etcd's buckets in it (server/storage/schema in etcd's source).
//!
//! Nothing is ever added: values of the same length take the place of those that are there, and buckets are emptied. What etcd's tools do with
//! a whole database engine (etcdutl snapshot restore) needs no more than that.

mod page;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use page::{Bucket, Element, Page, meta};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("it is no database of etcd's: {0}")]
    Foreign(&'static str),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("reading or writing it")]
    Io(#[from] io::Error),
}

type Result<T> = std::result::Result<T, DatabaseError>;

/// Depth beyond which a tree is no tree.
const DEPTH_MAX: usize = 32;
/// `<revision>_<number within it>`, both big-endian; deletions have a `t` behind it.
const REVISION_BYTES: usize = 17;

const META: &str = "meta";
const KEY: &str = "key";
/// The members, and those that were removed.
const MEMBERSHIP: [&str; 2] = ["members", "members_removed"];
/// Up to where the data has followed the log.
const POSITION: [&str; 2] = ["consistent_index", "term"];

#[derive(Debug)]
pub struct Database {
    file: File,
    page_bytes: u64,
    root: u64,
}

/// How far the data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Of the last entry of the log that is in it.
    pub index: u64,
    pub term: u64,
    /// 1 where nothing was ever written.
    pub revision: u64,
}

impl Database {
    pub fn read(path: &Path) -> Result<Database> {
        Database::of(File::open(path)?)
    }

    pub fn change(path: &Path) -> Result<Database> {
        Database::of(OpenOptions::new().read(true).write(true).open(path)?)
    }

    fn of(file: File) -> Result<Database> {
        let meta = meta(&file)?;
        if file.metadata()?.len() < meta.pages * meta.page_bytes {
            return Err(DatabaseError::Damaged("its end is missing".to_owned()));
        }
        Ok(Database { file, page_bytes: meta.page_bytes, root: meta.root })
    }

    pub fn position(&self) -> Result<Position> {
        let bucket = self.need_bucket(META)?;
        let number = |name: &str| -> Result<u64> {
            let Some((page, element)) = self.find(&bucket, name.as_bytes())? else { return Ok(0) };
            big_endian(page.value(&element)?)
        };
        let [index, term] = POSITION;
        Ok(Position { index: number(index)?, term: number(term)?, revision: self.revision()? })
    }

    fn revision(&self) -> Result<u64> {
        match self.last(&self.need_bucket(KEY)?)? {
            Some((page, element)) => revision_of(page.key(&element)?),
            None => Ok(1),
        }
    }

    /// Makes it the data that a new cluster begins with: nothing of its log was applied, it has no members, and its revision has grown so far
    /// that nobody takes it for what he watched before (as etcdutl's `--bump-revision` does). The new revision.
    pub fn begin_anew(&self, skipped: u64) -> Result<u64> {
        let bucket = self.need_bucket(META)?;
        for name in POSITION {
            if let Some((page, element)) = self.find(&bucket, name.as_bytes())? {
                let place = page.place_of_value(&element)?;
                self.file.write_all_at(&vec![0; place.length], place.offset)?;
            }
        }
        for name in MEMBERSHIP {
            if let Some(bucket) = self.bucket(name)? {
                self.empty(&bucket)?;
            }
        }
        let revision = self.skip_revisions(skipped)?;
        self.file.sync_all()?;
        Ok(revision)
    }

    /// The newest revision gets a greater number. It stays the newest, so the tree's order does.
    fn skip_revisions(&self, skipped: u64) -> Result<u64> {
        let Some((page, element)) = self.last(&self.need_bucket(KEY)?)? else { return Ok(1) };
        let revision = revision_of(page.key(&element)?)? + skipped;
        self.file.write_all_at(&revision.to_be_bytes(), page.place_of_key(&element)?.offset)?;
        Ok(revision)
    }

    fn need_bucket(&self, name: &'static str) -> Result<Bucket> {
        self.bucket(name)?.ok_or(DatabaseError::Foreign("it has none of etcd's buckets"))
    }

    fn bucket(&self, name: &str) -> Result<Option<Bucket>> {
        let Some((page, element)) = self.find(&Bucket::Tree(self.root), name.as_bytes())? else { return Ok(None) };
        page.bucket(&element).map(Some)
    }

    fn find(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<(Page, Element)>> {
        let leaf = self.leaf(bucket, |page| page.child_of(key))?;
        for index in 0..leaf.count() {
            let element = leaf.element(index)?;
            if leaf.key(&element)? == key {
                return Ok(Some((leaf, element)));
            }
        }
        Ok(None)
    }

    fn last(&self, bucket: &Bucket) -> Result<Option<(Page, Element)>> {
        let leaf = self.leaf(bucket, Page::last_child)?;
        match leaf.count() {
            0 => Ok(None),
            count => leaf.element(count - 1).map(|element| Some((leaf, element))),
        }
    }

    fn leaf(&self, bucket: &Bucket, choose: impl Fn(&Page) -> Result<u64>) -> Result<Page> {
        let mut page = match bucket {
            Bucket::Inline(page) => return Ok(page.clone()),
            Bucket::Tree(number) => self.page(*number)?,
        };
        for _ in 0..DEPTH_MAX {
            if page.is_leaf()? {
                return Ok(page);
            }
            page = self.page(choose(&page)?)?;
        }
        Err(DatabaseError::Damaged("its pages go in a circle".to_owned()))
    }

    fn page(&self, number: u64) -> Result<Page> {
        Page::read(&self.file, number, self.page_bytes)
    }

    /// Pages below the first are lost with it. etcd keeps no list of free pages: it finds those that nothing leads to (NoFreelistSync).
    fn empty(&self, bucket: &Bucket) -> Result<()> {
        let page = match bucket {
            Bucket::Inline(page) => page.clone(),
            Bucket::Tree(number) => self.page(*number)?,
        };
        self.file.write_all_at(&page.emptied_kind_and_count(), page.place_of_kind())?;
        Ok(())
    }
}

fn big_endian(bytes: &[u8]) -> Result<u64> {
    let eight = bytes.try_into().map_err(|_| DatabaseError::Damaged(format!("a number has {} bytes", bytes.len())))?;
    Ok(u64::from_be_bytes(eight))
}

fn revision_of(key: &[u8]) -> Result<u64> {
    match key.len() {
        REVISION_BYTES | 18 => big_endian(&key[..8]),
        length => Err(DatabaseError::Damaged(format!("a revision has {length} bytes"))),
    }
}

#[cfg(test)]
mod tests;
