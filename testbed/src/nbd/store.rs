//! The disk's content: the platter, and over it the writes that a power cut may take.

use std::io;
use std::ops::Range;
use std::path::Path;

use super::extents::Extents;
use super::platter::Platter;
use crate::Error;
use crate::dice::Dice;

/// What the cache holds at most. Beyond it the oldest writes go to the platter, as they do in a disk.
const CACHE_BYTES: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub size_bytes: u64,
    /// What is read and written, and what a power cut never tears.
    pub sector_bytes: u64,
}

#[derive(Debug)]
pub struct Store {
    geometry: Geometry,
    platter: Platter,
    /// Unflushed, in the order in which they were answered.
    pending: Vec<Write>,
    newest: Extents,
    pending_bytes: usize,
}

#[derive(Debug)]
struct Write {
    offset: u64,
    content: Content,
}

#[derive(Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    Zeros(u64),
}

/// What became of the unflushed writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CutReport {
    pub kept: u64,
    pub lost: u64,
    /// Some sectors kept, some lost.
    pub torn: u64,
}

impl Content {
    fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Zeros(length) => *length,
        }
    }
}

impl Write {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.content.len()
    }
}

impl Store {
    pub fn open(base: Option<&Path>, geometry: Geometry, directory: &Path) -> Result<Store, Error> {
        let platter = Platter::open(base, geometry.size_bytes, directory)?;
        Ok(Store { geometry, platter, pending: Vec::new(), newest: Extents::default(), pending_bytes: 0 })
    }

    /// Another store with the same content, as far as it was flushed.
    pub fn copy(&self, directory: &Path) -> Result<Store, Error> {
        let platter = self.platter.copy(directory)?;
        Ok(Store { geometry: self.geometry, platter, pending: Vec::new(), newest: Extents::default(), pending_bytes: 0 })
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Reads what was written last, flushed or not.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.platter.read(offset, buffer)?;
        for (range, write) in self.newest.within(offset..offset + buffer.len() as u64) {
            let target = &mut buffer[(range.start - offset) as usize..(range.end - offset) as usize];
            let write = &self.pending[write];
            match &write.content {
                Content::Zeros(_) => target.fill(0),
                Content::Bytes(bytes) => {
                    let from = (range.start - write.offset) as usize;
                    target.copy_from_slice(&bytes[from..from + target.len()]);
                }
            }
        }
        Ok(())
    }

    pub fn write(&mut self, offset: u64, content: Content) -> io::Result<()> {
        if let Content::Bytes(bytes) = &content {
            self.pending_bytes += bytes.len();
        }
        let write = Write { offset, content };
        self.newest.insert(write.range(), self.pending.len());
        self.pending.push(write);
        if self.pending_bytes > CACHE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Everything written so far survives.
    pub fn flush(&mut self) -> io::Result<()> {
        for write in std::mem::take(&mut self.pending) {
            match write.content {
                Content::Bytes(bytes) => self.platter.write(write.offset, &bytes)?,
                Content::Zeros(length) => self.platter.zero(write.offset, length)?,
            }
        }
        self.newest.clear();
        self.pending_bytes = 0;
        Ok(())
    }

    /// Each unflushed write is kept (two of five), lost (two of five) or torn, and what is left of them is all there is.
    pub fn cut(&mut self, seed: u64) -> io::Result<CutReport> {
        let mut dice = Dice::new(seed);
        let mut report = CutReport::default();
        for write in std::mem::take(&mut self.pending) {
            match dice.roll(5) {
                0 | 1 => report.lost += 1,
                2 if write.content.len() > self.geometry.sector_bytes => {
                    report.torn += 1;
                    self.tear(&write, &mut dice)?;
                }
                _ => {
                    report.kept += 1;
                    let range = write.range();
                    self.keep(&write, range)?;
                }
            }
        }
        self.newest.clear();
        self.pending_bytes = 0;
        Ok(report)
    }

    /// Either a first part reached the platter, or any of its sectors did.
    fn tear(&mut self, write: &Write, dice: &mut Dice) -> io::Result<()> {
        let sector_bytes = self.geometry.sector_bytes;
        let sectors = write.content.len() / sector_bytes;
        let prefix = 1 + dice.roll(sectors - 1);
        // A trim of a whole volume has millions of sectors: past a thousand only the first part is kept.
        if sectors > 1000 || dice.roll(2) == 0 {
            return self.keep(write, write.offset..write.offset + prefix * sector_bytes);
        }
        for sector in 0..sectors {
            if dice.roll(2) == 0 {
                let start = write.offset + sector * sector_bytes;
                self.keep(write, start..start + sector_bytes)?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, write: &Write, range: Range<u64>) -> io::Result<()> {
        match &write.content {
            Content::Zeros(_) => self.platter.zero(range.start, range.end - range.start),
            Content::Bytes(bytes) => {
                let (from, to) = ((range.start - write.offset) as usize, (range.end - write.offset) as usize);
                self.platter.write(range.start, &bytes[from..to])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nbd::SECTOR_BYTES;

    const SIZE: u64 = 64 * 1024;

    fn sector(fill: u8) -> Vec<u8> {
        vec![fill; SECTOR_BYTES as usize]
    }

    fn store(directory: &Path) -> Store {
        Store::open(None, Geometry { size_bytes: SIZE, sector_bytes: SECTOR_BYTES }, directory).expect("a store")
    }

    fn all(store: &Store) -> Vec<u8> {
        let mut content = vec![0xee; SIZE as usize];
        store.read(0, &mut content).expect("read");
        content
    }

    #[test]
    fn what_was_flushed_survives_every_cut_and_the_rest_is_old_or_new() {
        let (mut lost, mut kept, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let directory = tempfile::tempdir().expect("temporary directory");
            let mut store = store(directory.path());
            store.write(0, Content::Bytes(vec![1; 8192])).expect("write");
            store.flush().expect("flush");
            store.write(4096, Content::Bytes(vec![2; 8192])).expect("write");
            store.write(16384, Content::Zeros(1024)).expect("zero");
            let report = store.cut(seed).expect("cut");
            let content = all(&store);
            assert_eq!(content[..4096], vec![1; 4096]);
            for (index, sector) in content[4096..12288].chunks(512).enumerate() {
                let old = if index < 8 { 1 } else { 0 };
                assert!(sector.iter().all(|b| *b == old) || sector.iter().all(|b| *b == 2), "seed {seed} tore sector {index}");
            }
            assert_eq!(report.kept + report.lost + report.torn, 2);
            (lost, kept, torn) = (lost + report.lost, kept + report.kept, torn + report.torn);
        }
        assert!(lost > 50 && kept > 50 && torn > 20, "lost {lost}, kept {kept}, torn {torn}");
    }

    #[test]
    fn large_sectors_do_not_tear() {
        let mut torn = 0;
        for seed in 0..100 {
            let directory = tempfile::tempdir().expect("temporary directory");
            let geometry = Geometry { size_bytes: SIZE, sector_bytes: 4096 };
            let mut store = Store::open(None, geometry, directory.path()).expect("a store");
            store.write(0, Content::Bytes(vec![1; 16384])).expect("write");
            torn += store.cut(seed).expect("cut").torn;
            for sector in all(&store).chunks(4096) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed} tore a sector");
            }
        }
        assert!(torn > 5, "torn {torn}");
    }

    #[test]
    fn the_same_seed_gives_the_same_disk() {
        let disk = |seed| {
            let directory = tempfile::tempdir().expect("temporary directory");
            let mut store = store(directory.path());
            for number in 0..64_u64 {
                store.write(number * 1024, Content::Bytes(vec![number as u8 + 1; 1024])).expect("write");
            }
            store.cut(seed).expect("cut");
            all(&store)
        };
        assert_eq!(disk(7), disk(7));
        assert_ne!(disk(7), disk(8));
    }

    #[test]
    fn a_later_write_can_survive_an_earlier_one() {
        let reordered = (0..50).any(|seed| {
            let directory = tempfile::tempdir().expect("temporary directory");
            let mut store = store(directory.path());
            store.write(0, Content::Bytes(sector(1))).expect("write");
            store.write(512, Content::Bytes(sector(2))).expect("write");
            store.cut(seed).expect("cut");
            let content = all(&store);
            content[0] == 0 && content[512] == 2
        });
        assert!(reordered);
    }

    #[test]
    fn the_base_image_shows_through_and_stays_as_it_is() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let base = directory.path().join("base");
        std::fs::write(&base, vec![9; 6000]).expect("base");
        let geometry = Geometry { size_bytes: SIZE, sector_bytes: SECTOR_BYTES };
        let mut store = Store::open(Some(&base), geometry, directory.path()).expect("a store");
        store.write(512, Content::Bytes(sector(3))).expect("write");
        store.flush().expect("flush");
        store.write(1024, Content::Zeros(512)).expect("zero");
        store.flush().expect("flush");
        let content = all(&store);
        let mut expected = vec![9; 6000];
        expected[512..1024].fill(3);
        expected[1024..1536].fill(0);
        expected.resize(SIZE as usize, 0);
        assert!(content == expected);
        assert_eq!(std::fs::read(&base).expect("base"), vec![9; 6000]);
    }

    #[test]
    fn a_copy_has_what_was_flushed_and_goes_its_own_way() {
        let directories = [tempfile::tempdir().expect("temporary directory"), tempfile::tempdir().expect("temporary directory")];
        let base = directories[0].path().join("base");
        std::fs::write(&base, vec![9; 6000]).expect("base");
        let geometry = Geometry { size_bytes: SIZE, sector_bytes: SECTOR_BYTES };
        let mut store = Store::open(Some(&base), geometry, directories[0].path()).expect("a store");
        store.write(512, Content::Bytes(sector(3))).expect("write");
        store.write(4096, Content::Zeros(512)).expect("zero");
        store.flush().expect("flush");
        let flushed = all(&store);
        store.write(1024, Content::Bytes(sector(4))).expect("write");
        let mut copy = store.copy(directories[1].path()).expect("a copy");
        assert!(all(&copy) == flushed);
        store.flush().expect("flush");
        assert!(all(&copy) == flushed);
        let original = all(&store);
        copy.write(0, Content::Bytes(vec![5; 8192])).expect("write");
        copy.flush().expect("flush");
        assert!(all(&store) == original && all(&copy)[..8192] == [5; 8192]);
    }

    #[derive(Debug, Clone)]
    enum Action {
        Write { sector: u64, sectors: u64, fill: u8 },
        Zero { sector: u64, sectors: u64 },
        Flush,
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let action = prop_oneof![
            4 => (0_u64..100, 1_u64..28, 1_u8..255).prop_map(|(sector, sectors, fill)| Action::Write { sector, sectors, fill }),
            2 => (0_u64..100, 1_u64..28).prop_map(|(sector, sectors)| Action::Zero { sector, sectors }),
            1 => Just(Action::Flush),
        ];
        prop::collection::vec(action, 0..60)
    }

    proptest! {
        #[test]
        fn reads_see_the_last_write_flushed_or_not(actions in actions()) {
            let directory = tempfile::tempdir().expect("temporary directory");
            let mut store = store(directory.path());
            let mut plain = vec![0; SIZE as usize];
            for action in actions {
                match action {
                    Action::Write { sector, sectors, fill } => {
                        let bytes = vec![fill; (sectors * 512) as usize];
                        plain[(sector * 512) as usize..][..bytes.len()].copy_from_slice(&bytes);
                        store.write(sector * 512, Content::Bytes(bytes)).expect("write");
                    }
                    Action::Zero { sector, sectors } => {
                        plain[(sector * 512) as usize..][..(sectors * 512) as usize].fill(0);
                        store.write(sector * 512, Content::Zeros(sectors * 512)).expect("zero");
                    }
                    Action::Flush => store.flush().expect("flush"),
                }
            }
            prop_assert!(all(&store) == plain);
            store.flush().expect("flush");
            prop_assert!(all(&store) == plain);
        }
    }
}
