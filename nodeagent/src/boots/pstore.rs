//! What the kernel kept of its last crash where it survives a reset: files of /sys/fs/pstore (Documentation/ABI/testing/pstore). Removing one
//! frees its place in the firmware.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use machine::Root;
use machine::record::CANNOT_BOOT;

use super::record::last_bytes;

/// What is kept of a crash.
const MAX_BYTES: usize = 24 * 1024;

/// A crash as the kernel's log tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crash {
    /// The end of the log, oldest line first.
    pub log: String,
    files: Vec<PathBuf>,
}

impl Crash {
    /// What the boot before left on this machine; what cannot be read is told of in the log.
    pub fn left(root: &Root) -> Option<Crash> {
        Crash::read(&root.path("/sys/fs/pstore")).inspect_err(|error| tracing::warn!("reading pstore: {error}")).ok().flatten()
    }

    /// What is there; `None` where nothing is.
    fn read(directory: &Path) -> io::Result<Option<Crash>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        let read = |path: &PathBuf| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            // A kernel that cannot unpack what it packed shows it as it is.
            let readable = name.starts_with("dmesg-") && !name.ends_with(".enc.z");
            let text = readable.then(|| fs::read(path).ok()).flatten()?;
            Some((name, String::from_utf8_lossy(&text).into_owned()))
        };
        let log = log(files.iter().filter_map(read).collect());
        Ok((!files.is_empty()).then_some(Crash { log: last_bytes(&log, MAX_BYTES), files }))
    }

    /// What the kernel said last: the panic, else the oops, else why init gave the boot up, else its last line.
    pub fn words(&self) -> String {
        let saying = |words: &str| self.log.lines().rev().find(|line| line.contains(words)).map(str::to_owned);
        let line = saying("Kernel panic - not syncing").or_else(|| saying("Oops")).or_else(|| saying("BUG:"));
        let line = line.or_else(|| saying(&format!("corten: {CANNOT_BOOT}")));
        let line = line.or_else(|| self.log.lines().last().map(str::to_owned));
        let line = line.unwrap_or_else(|| "the kernel left a crash log that cannot be read".to_owned());
        without_time(&line).to_owned()
    }

    /// Makes room for the next crash.
    pub fn forget(&self) {
        for file in &self.files {
            if let Err(error) = fs::remove_file(file) {
                tracing::warn!("removing {}: {error}", file.display());
            }
        }
    }
}

/// The parts of the log in order. Each begins with a line `Panic#2 Part1`: the higher the part, the older its lines; of several crashes the
/// one with the highest number is the last.
fn log(files: Vec<(String, String)>) -> String {
    let mut parts: Vec<((u32, u32), String)> = Vec::new();
    for (_, text) in files {
        let (head, rest) = text.split_once('\n').unwrap_or((&text, ""));
        match numbers(head) {
            Some((crash, part)) => parts.push(((crash, u32::MAX - part), rest.to_owned())),
            None => parts.push(((0, 0), text)),
        }
    }
    parts.sort_by_key(|(key, _)| *key);
    let last = parts.last().map(|((crash, _), _)| *crash);
    let text: String = parts.into_iter().filter(|((crash, _), _)| Some(*crash) == last).map(|(_, text)| text).collect();
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

/// `Panic#2 Part1`
fn numbers(head: &str) -> Option<(u32, u32)> {
    let (crash, part) = head.split_once(" Part")?;
    Some((crash.rsplit_once('#')?.1.parse().ok()?, part.trim().parse().ok()?))
}

/// `<0>[   12.345678] text`
fn without_time(line: &str) -> &str {
    let line = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map_or(line, |(_, rest)| rest);
    line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(line, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(files: &[(&str, &str)]) -> Option<Crash> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let crash = Crash::read(directory.path()).unwrap();
        if let Some(crash) = &crash {
            crash.forget();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        crash
    }

    #[test]
    fn parts_are_put_together_and_the_panic_is_found() {
        let crash = crash(&[
            (
                "dmesg-efi_pstore-1001",
                "Panic#2 Part1\n<0>[   12.500000] Kernel panic - not syncing: Fatal exception\n<0>[   12.600000] ---[ end ]---\n",
            ),
            ("dmesg-efi_pstore-1002", "Panic#2 Part2\n<6>[   12.400000] before\n"),
            ("dmesg-efi_pstore-1003", "Oops#1 Part1\n<1>[   12.300000] Oops: 0000\n"),
        ]);
        let crash = crash.unwrap();
        assert!(crash.log.starts_with("<6>[   12.400000] before\n<0>[   12.500000] Kernel panic"), "{}", crash.log);
        assert!(!crash.log.contains("Oops"));
        assert_eq!(crash.words(), "Kernel panic - not syncing: Fatal exception");
    }

    #[test]
    fn what_is_not_there_or_cannot_be_read() {
        assert_eq!(Crash::read(Path::new("/nowhere")).unwrap(), None);
        assert_eq!(crash(&[]), None);
        let packed = crash(&[("dmesg-efi_pstore-1.enc.z", "\u{1}\u{2}")]).unwrap();
        assert_eq!((packed.log.as_str(), packed.words().as_str()), ("", "the kernel left a crash log that cannot be read"));
        let bare = crash(&[("dmesg-ramoops-0", "no head\nBUG: scheduling while atomic\u{7}\nlast\n")]).unwrap();
        assert_eq!(bare.words(), "BUG: scheduling while atomic?");
        let long = crash(&[("dmesg-ramoops-0", &"line\n".repeat(20_000))]).unwrap();
        assert!(long.log.len() <= MAX_BYTES && long.words() == "line");
    }
}
