//! Faults in an update file's bytes: what a disk, a network or somebody in between makes of it.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, ensure};

/// Magic, version of the file, length of the signed manifest.
const HEAD_BYTES: usize = 16;
/// Digest of the chunk, length of what follows.
const RECORD_HEAD_BYTES: usize = 36;

/// The file's bytes, and where its records lie.
#[derive(Debug, Clone)]
pub struct Stream {
    bytes: Vec<u8>,
    records: Vec<Range<usize>>,
}

impl Stream {
    pub fn of(file: &Path) -> anyhow::Result<Stream> {
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        let length = |at: usize| -> anyhow::Result<usize> {
            let field = bytes.get(at..at + 4).with_context(|| format!("{}: no length at byte {at}", file.display()))?;
            Ok(u32::from_le_bytes(field.try_into()?) as usize)
        };
        let mut at = HEAD_BYTES + length(HEAD_BYTES - 4)?;
        let mut records = Vec::new();
        while at < bytes.len() {
            let end = at + RECORD_HEAD_BYTES + length(at + RECORD_HEAD_BYTES - 4)?;
            ensure!(end <= bytes.len(), "{}: the record at byte {at} is cut short", file.display());
            records.push(at..end);
            at = end;
        }
        ensure!(records.len() > 1, "{}: {} records", file.display(), records.len());
        Ok(Stream { bytes, records })
    }

    /// One bit of each record's data is another.
    pub fn with_flipped_chunks(mut self) -> Stream {
        for record in &self.records {
            self.bytes[(record.start + RECORD_HEAD_BYTES + record.end) / 2] ^= 1;
        }
        self
    }

    /// The records from the last one to the first.
    pub fn reordered(mut self) -> Stream {
        let head = self.records[0].start;
        let turned: Vec<u8> = self.records.iter().rev().flat_map(|record| &self.bytes[record.clone()]).copied().collect();
        self.bytes.truncate(head);
        self.bytes.extend(turned);
        self
    }

    /// The first half.
    pub fn cut_short(mut self) -> Stream {
        self.bytes.truncate(self.bytes.len() / 2);
        self
    }

    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        fs::write(out, &self.bytes).with_context(|| out.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use update::{BadFile, Header, PartName, SigningKey, UpdateFile, Version};

    use super::*;

    #[test]
    fn a_reader_tells_each_fault_from_the_others() {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        for (name, byte) in [("root", 1), ("verity", 2), ("uki", 3)] {
            fs::write(at(name), vec![byte; 8192]).expect("a part");
        }
        let header = Header {
            version: Version::new(0, 2, 0),
            profile: "bare".to_owned(),
            architecture: "x86_64".to_owned(),
            minimum_version: Version::new(0, 0, 0),
            kubernetes: None,
            kernel_release: "6.12.1".to_owned(),
            built_at: 1,
            config_versions: Vec::new(),
            expires_at: None,
            release_notes: String::new(),
            root_hash: "ab".repeat(32).parse().expect("a digest"),
            slot_bytes: 1 << 20,
        };
        let paths = PartName::ALL.map(|name| (name, at(&name.to_string())));
        let parts = paths.each_ref().map(|(name, path)| (*name, path.as_path()));
        let key = SigningKey::from_seed(&[5; 32]).expect("a key");
        update::write(fs::File::create(at("a.update")).expect("a file"), header, &parts, &[key], 1, |_| {}).expect("an update");
        let sound = Stream::of(&at("a.update")).expect("it reads");
        let read = |stream: Stream| {
            stream.write(&at("b.update")).expect("write");
            UpdateFile::open(at("b.update"))
        };
        read(sound.clone()).expect("sound").verify_all().expect("sound");
        assert!(matches!(read(sound.clone().reordered()), Err(BadFile::Order { number: 1, .. })));
        assert!(matches!(read(sound.clone().cut_short()), Err(BadFile::CutShort { .. })));
        let flipped = read(sound.with_flipped_chunks()).expect("a head that reads");
        assert!(matches!(flipped.verify_all(), Err(BadFile::Chunk { .. })));
    }
}
