//! The audit log's files on STATE: `audit/<number of the first record>.log`, each with the head of the chain before it in its first line.
//! Lines are appended and synced; whole files go when there are too many.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use machine::audit::{Call, Event, Head};

/// A file that is larger gets no more lines.
const FILE_BYTES: u64 = 1024 * 1024;
/// Files kept: with [`FILE_BYTES`] what the log takes of STATE.
const FILES: usize = 16;

/// The log's end, for its one writer.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    last: Option<(File, u64)>,
    head: Head,
}

/// Part of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// Before the first line.
    pub start: Head,
    pub lines: Vec<String>,
}

impl Log {
    /// Finds where the log ended. What a power cut left of a line was never answered for, and goes.
    pub fn open(directory: &Path) -> anyhow::Result<Log> {
        let doing = || format!("opening the audit log in {}", directory.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(doing)?;
        let mut log = Log { directory: directory.to_owned(), last: None, head: Head::start() };
        for first in numbers(directory).with_context(doing)?.into_iter().rev() {
            if log.take_up(first).with_context(doing)? {
                break;
            }
        }
        Ok(log)
    }

    /// Goes on with this file, unless there is nothing in it.
    fn take_up(&mut self, first: u64) -> io::Result<bool> {
        let path = path(&self.directory, first);
        let bytes = fs::read(&path)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
        let mut lines = text.lines();
        let Some(start) = lines.next().and_then(|line| line.parse::<Head>().ok()) else {
            fs::remove_file(path)?;
            return Ok(false);
        };
        // A line that was tampered with is found by whoever checks the chain; this one goes on from what is written there.
        let lines: Vec<&str> = lines.collect();
        self.head = match lines.last() {
            None => start,
            Some(line) => Head { number: start.number + lines.len() as u64, hash: hash(line).to_owned() },
        };
        let file = OpenOptions::new().append(true).open(path)?;
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
            file.sync_all()?;
        }
        self.last = Some((file, whole as u64));
        Ok(true)
    }

    /// On the disk when this returns; the record's number.
    pub fn append(&mut self, at: String, call: Call, event: Event) -> anyhow::Result<u64> {
        let (line, head) = self.head.write(at, call, event)?;
        let written = self.write(&(line + "\n"), head.number);
        if written.is_err() {
            // What lies there is looked at again before the next line.
            self.last = None;
        }
        written.with_context(|| format!("writing the audit log in {}", self.directory.display()))?;
        self.head = head;
        Ok(self.head.number)
    }

    fn write(&mut self, line: &str, number: u64) -> io::Result<()> {
        if let Some((file, bytes)) = self.last.as_mut().filter(|(_, bytes)| *bytes < FILE_BYTES) {
            file.write_all(line.as_bytes())?;
            *bytes += line.len() as u64;
            return file.sync_data();
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path(&self.directory, number))?;
        let text = format!("{}\n{line}", self.head);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        File::open(&self.directory)?.sync_all()?;
        self.last = Some((file, text.len() as u64));
        let numbers = numbers(&self.directory)?;
        let old = numbers.len().saturating_sub(FILES);
        numbers.into_iter().take(old).try_for_each(|first| fs::remove_file(path(&self.directory, first)))
    }
}

/// Lines from this record on, as many as its file has; from the first that is still there, if it is not. None at the end of the log.
pub fn page(directory: &Path, from: u64) -> io::Result<Option<Page>> {
    let numbers = match numbers(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        numbers => numbers?,
    };
    let Some(file) = numbers.iter().rev().find(|first| **first <= from).or(numbers.first()) else { return Ok(None) };
    let text = String::from_utf8_lossy(&fs::read(path(directory, *file))?).into_owned();
    // The last line may be being written.
    let Some(end) = text.rfind('\n') else { return Ok(None) };
    let mut lines = text[..end].lines();
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("{} has no head", path(directory, *file).display()));
    let mut start: Head = lines.next().and_then(|line| line.parse().ok()).ok_or_else(unreadable)?;
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    let skipped = from.saturating_sub(start.number + 1).min(lines.len() as u64);
    if let Some(line) = skipped.checked_sub(1).and_then(|last| lines.get(last as usize)) {
        start = Head { number: start.number + skipped, hash: hash(line).to_owned() };
    }
    lines.drain(..skipped as usize);
    Ok((!lines.is_empty()).then_some(Page { start, lines }))
}

/// What a line says its hash is.
fn hash(line: &str) -> &str {
    line.split_once(' ').map_or("", |(hash, _)| hash)
}

fn path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        numbers.extend(name.to_string_lossy().strip_suffix(".log").and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let text = |text: &str| text.to_owned();
        Call {
            subject: text("os:admin/alice"),
            role: text("admin"),
            address: text("192.0.2.1:4711"),
            method: text("/corten.machine.v1.Config/Apply"),
        }
    }

    fn add(log: &mut Log) -> u64 {
        log.append("2026-01-02T03:04:05Z".to_owned(), call(), Event::Begun).unwrap()
    }

    /// All of it, checked.
    fn read(directory: &Path) -> (Head, Head) {
        let mut from = 0;
        let mut ends: Option<(Head, Head)> = None;
        while let Some(page) = page(directory, from).unwrap() {
            let (first, mut head) = ends.take().unwrap_or_else(|| (page.start.clone(), page.start.clone()));
            assert_eq!(head, page.start);
            for line in &page.lines {
                head = head.read(line).unwrap().1;
            }
            from = head.number + 1;
            ends = Some((first, head));
        }
        ends.unwrap_or_else(|| (Head::start(), Head::start()))
    }

    #[test]
    fn goes_on_after_a_power_cut_anywhere() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path()).unwrap();
        assert_eq!((add(&mut log), add(&mut log)), (1, 2));
        let two = log.head.clone();
        let file = path(directory.path(), 1);
        let whole = fs::read(&file).unwrap();
        add(&mut log);
        let three = fs::read(&file).unwrap();
        for cut in whole.len()..three.len() {
            fs::write(&file, &three[..cut]).unwrap();
            assert_eq!(Log::open(directory.path()).unwrap().head, two, "cut at {cut}");
        }
        let mut log = Log::open(directory.path()).unwrap();
        assert_eq!(add(&mut log), 3);
        assert_eq!(read(directory.path()), (Head::start(), log.head.clone()));
        // A file that got no further than its first line.
        fs::write(path(directory.path(), 4), "3:ab").unwrap();
        let mut log = Log::open(directory.path()).unwrap();
        assert_eq!(add(&mut log), 4);
        assert_eq!(read(directory.path()).1, log.head);
    }

    #[test]
    fn is_bounded_and_its_rest_still_a_chain() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path()).unwrap();
        for _ in 0..FILES + 3 {
            add(&mut log);
            // As if it were full.
            log.last.as_mut().unwrap().1 = FILE_BYTES;
        }
        assert_eq!(numbers(directory.path()).unwrap().len(), FILES);
        let (first, last) = read(directory.path());
        assert_eq!((first.number, last.number), (3, FILES as u64 + 3));
        assert_eq!(page(directory.path(), 7).unwrap().unwrap().start.number, 6);
        assert_eq!(page(directory.path(), last.number + 1).unwrap(), None);
    }

    #[test]
    fn a_page_begins_where_it_is_asked_to() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(page(&directory.path().join("none"), 0).unwrap(), None);
        let mut log = Log::open(directory.path()).unwrap();
        for _ in 0..5 {
            add(&mut log);
        }
        let all = page(directory.path(), 0).unwrap().unwrap();
        let some = page(directory.path(), 4).unwrap().unwrap();
        assert_eq!((some.start.number, some.lines.as_slice()), (3, &all.lines[3..]));
        assert!(some.start.read(&some.lines[0]).is_ok());
    }
}
