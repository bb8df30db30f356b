//! A log in chunks of whole lines, over rotations: a file that was renamed is read to its end before the next one is begun.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::layout::Layout;
use super::tail::last_lines;

const CHUNK_BYTES: usize = 32 * 1024;

/// A reader of a log. It keeps its file open, so that nothing is lost when the file is renamed or removed.
#[derive(Debug)]
pub struct Chunks {
    layout: Layout,
    open: Option<Open>,
    /// Bytes of the log before the place where it is read.
    passed: u64,
    follow: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: u64,
    directory: PathBuf,
}

impl Chunks {
    /// Begins `tail` lines before the end, or with the oldest line that is kept.
    pub fn begin(layout: Layout, tail: Option<usize>, follow: bool) -> io::Result<Chunks> {
        let mut chunks = Chunks { layout, open: None, passed: 0, follow };
        let files = chunks.layout.files();
        let (first, offset) = match tail {
            Some(count) => start_of_tail(&files, count)?,
            None => (0, 0),
        };
        chunks.passed = files.iter().take(first).map(|path| size(path)).sum::<u64>() + offset;
        if let Some(path) = files.get(first) {
            chunks.open(path, offset)?;
        }
        Ok(chunks)
    }

    /// The next lines; `None` when there are no more for now.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            // Looked up before the file is read to its end: what is written to it after it was renamed is then seen as well.
            let newer = self.newer();
            if let Some(lines) = self.read(newer.is_some() || !self.follow)? {
                return Ok(Some(self.layout.show(lines)));
            }
            match newer {
                Some((path, offset)) => self.open(&path, offset)?,
                None => return Ok(None),
            }
        }
    }

    /// Whole lines of the open file; when `all`, a last line without end as well.
    fn read(&mut self, all: bool) -> io::Result<Option<Vec<u8>>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let mut lines = Vec::with_capacity(CHUNK_BYTES);
        (&mut open.file).take(CHUNK_BYTES as u64).read_to_end(&mut lines)?;
        let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        // A line that fills a chunk goes out in pieces.
        let kept = if whole == 0 && (all || lines.len() == CHUNK_BYTES) || all && lines.len() < CHUNK_BYTES { lines.len() } else { whole };
        open.file.seek(SeekFrom::Current(kept as i64 - lines.len() as i64))?;
        lines.truncate(kept);
        self.passed += kept as u64;
        Ok((!lines.is_empty()).then_some(lines))
    }

    /// The file after the open one, and where to begin in it.
    fn newer(&self) -> Option<(PathBuf, u64)> {
        let files = self.layout.files();
        let Some(open) = &self.open else { return Some((files.into_iter().next()?, 0)) };
        if files.first()?.parent() != Some(&open.directory) {
            // The whole log was copied: go on in the copy where the original was left.
            return at(&files, self.passed);
        }
        let place = files.iter().position(|path| inode(path) == Some(open.inode));
        // A file that is not there any more was the oldest one.
        let next = place.map_or(0, |place| place + 1);
        Some((files.get(next)?.clone(), 0))
    }

    fn open(&mut self, path: &Path, offset: u64) -> io::Result<()> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        self.open = Some(Open { inode: file.metadata()?.ino(), file, directory });
        Ok(())
    }
}

/// In which file the last lines begin, and where.
fn start_of_tail(files: &[PathBuf], count: usize) -> io::Result<(usize, u64)> {
    let mut left = count;
    for (index, path) in files.iter().enumerate().rev() {
        let (offset, lines) = last_lines(&mut File::open(path)?, left)?;
        left -= lines;
        if left == 0 {
            return Ok((index, offset));
        }
    }
    Ok((0, 0))
}

/// The place so many bytes after the log's beginning.
fn at(files: &[PathBuf], mut passed: u64) -> Option<(PathBuf, u64)> {
    let last = files.last()?;
    for path in files {
        let bytes = size(path);
        if passed <= bytes || path == last {
            return Some((path.clone(), passed.min(bytes)));
        }
        passed -= bytes;
    }
    None
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

fn inode(path: &Path) -> Option<u64> {
    path.metadata().ok().map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use machine::Root;

    use super::*;

    /// init's side of a service's log.
    struct Writer {
        _directory: tempfile::TempDir,
        root: Root,
    }

    impl Writer {
        fn new() -> Writer {
            let directory = tempfile::tempdir().unwrap();
            let root = Root::new(directory.path());
            fs::create_dir_all(root.log_directory()).unwrap();
            Writer { _directory: directory, root }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.log_directory().join(name)
        }

        fn append(&self, text: &str) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path("etcd.log")).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn rotate(&self) {
            let _ = fs::rename(self.path("etcd.log.1"), self.path("etcd.log.2"));
            let _ = fs::rename(self.path("etcd.log"), self.path("etcd.log.1"));
        }

        fn reader(&self, tail: Option<usize>, follow: bool) -> Chunks {
            Chunks::begin(Layout::service(&self.root, "etcd"), tail, follow).unwrap()
        }
    }

    fn rest(chunks: &mut Chunks) -> String {
        let mut text = Vec::new();
        while let Some(chunk) = chunks.next().unwrap() {
            text.extend(chunk);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn tails_reach_over_rotated_files() {
        let writer = Writer::new();
        writer.append("one\ntwo\n");
        writer.rotate();
        writer.append("three\n");
        writer.rotate();
        writer.append("four\nfive");
        assert_eq!(rest(&mut writer.reader(None, false)), "one\ntwo\nthree\nfour\nfive");
        assert_eq!(rest(&mut writer.reader(Some(4), false)), "two\nthree\nfour\nfive");
        assert_eq!(rest(&mut writer.reader(Some(2), false)), "four\nfive");
        assert_eq!(rest(&mut writer.reader(Some(0), false)), "");
        assert_eq!(rest(&mut writer.reader(Some(99), false)), "one\ntwo\nthree\nfour\nfive");
    }

    #[test]
    fn a_follower_misses_nothing_over_rotations_and_waits_for_whole_lines() {
        let writer = Writer::new();
        writer.append("one\n");
        let mut reader = writer.reader(Some(1), true);
        assert_eq!(rest(&mut reader), "one\n");
        writer.append("tw");
        assert_eq!(rest(&mut reader), "");
        writer.append("o\nthree\n");
        writer.rotate();
        writer.append("four\n");
        assert_eq!(rest(&mut reader), "two\nthree\nfour\n");
        writer.append("five\n");
        writer.rotate();
        writer.append("six\n");
        writer.rotate();
        writer.append("seven\n");
        assert_eq!(rest(&mut reader), "five\nsix\nseven\n");
        // So far behind that its file is gone: the oldest that is left comes next.
        for text in ["eight\n", "nine\n", "ten\n"] {
            writer.append(text);
            writer.rotate();
        }
        assert_eq!(rest(&mut reader), "eight\nnine\nten\n");
    }

    #[test]
    fn a_follower_comes_along_when_the_log_moves() {
        let writer = Writer::new();
        let early = writer.root.early_log_directory();
        fs::create_dir_all(&early).unwrap();
        fs::write(early.join("etcd.log.1"), "one\n").unwrap();
        fs::write(early.join("etcd.log"), "two\nthree\n").unwrap();
        let mut reader = writer.reader(Some(1), true);
        assert_eq!(rest(&mut reader), "three\n");
        writer.append("one\ntwo\nthree\nfour\n");
        fs::remove_dir_all(&early).unwrap();
        assert_eq!(rest(&mut reader), "four\n");
    }

    #[test]
    fn long_logs_come_in_chunks_of_whole_lines() {
        let writer = Writer::new();
        let line = format!("{}\n", "x".repeat(999));
        writer.append(&line.repeat(100));
        writer.append(&"y".repeat(100_000));
        let mut reader = writer.reader(None, false);
        let mut text = Vec::new();
        while let Some(chunk) = reader.next().unwrap() {
            assert!(chunk.len() <= CHUNK_BYTES);
            text.push(chunk);
        }
        assert!(text[..3].iter().all(|chunk| chunk.ends_with(b"\n")));
        assert_eq!(text.concat().len(), 200_000);
    }
}
