//! A log file that starts over when it is full, and keeps a few of the last ones: `x.log`, `x.log.1`, `x.log.2`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::Limits;

#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limits: Limits,
    file: Option<File>,
    bytes: u64,
}

impl LogFile {
    pub fn new(path: PathBuf, limits: Limits) -> LogFile {
        LogFile { path, limits, file: None, bytes: 0 }
    }

    /// Appends whole lines. What a full or broken file system does not take is lost: a log never stops a service.
    pub fn append(&mut self, text: &[u8]) {
        if !text.is_empty() && self.try_append(text).is_err() {
            // Opened anew next time: the directory may have come back.
            self.file = None;
        }
    }

    /// The files from the oldest to the current one.
    pub fn paths(&self) -> Vec<PathBuf> {
        (0..self.limits.files).rev().map(|age| self.aged(age)).collect()
    }

    fn try_append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.file.is_some() && self.bytes.saturating_add(text.len() as u64) > self.limits.file_bytes {
            self.rotate();
        }
        if self.file.is_none() {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.path)?;
            self.bytes = file.metadata()?.len();
            self.file = Some(file);
            if self.bytes > 0 && self.bytes.saturating_add(text.len() as u64) > self.limits.file_bytes {
                self.rotate();
                return self.try_append(text);
            }
        }
        if let Some(file) = &mut self.file {
            file.write_all(text)?;
            self.bytes = self.bytes.saturating_add(text.len() as u64);
        }
        Ok(())
    }

    /// Each file becomes a step older; the oldest is replaced.
    fn rotate(&mut self) {
        self.file = None;
        if self.limits.files < 2 {
            let _ = fs::remove_file(&self.path);
        }
        for age in (0..self.limits.files.saturating_sub(1)).rev() {
            let _ = fs::rename(self.aged(age), self.aged(age + 1));
        }
    }

    fn aged(&self, age: u32) -> PathBuf {
        if age == 0 {
            return self.path.clone();
        }
        let mut path = self.path.as_os_str().to_owned();
        path.push(format!(".{age}"));
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file_bytes: 10, files: 3 };

    fn contents(file: &LogFile) -> Vec<String> {
        file.paths().iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect()
    }

    #[test]
    fn full_file_becomes_older_and_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut file = LogFile::new(directory.path().join("logs/x.log"), LIMITS);
        for line in ["111\n", "222\n", "333\n", "444\n", "555\n", "666\n", "777\n"] {
            file.append(line.as_bytes());
        }
        assert_eq!(contents(&file), ["333\n444\n", "555\n666\n", "777\n"]);
        assert_eq!(fs::read_dir(directory.path().join("logs")).expect("there").count(), 3);
    }

    #[test]
    fn goes_on_in_the_file_of_the_last_boot() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("x.log");
        LogFile::new(path.clone(), LIMITS).append(b"1111111\n");
        let mut file = LogFile::new(path, LIMITS);
        file.append(b"2222\n");
        file.append(b"3\n");
        assert_eq!(contents(&file), ["", "1111111\n", "2222\n3\n"]);
    }

    #[test]
    fn text_larger_than_a_file_is_written_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut file = LogFile::new(directory.path().join("x.log"), LIMITS);
        file.append(b"12345678901234567890\n");
        file.append(b"1\n");
        assert_eq!(contents(&file), ["", "12345678901234567890\n", "1\n"]);
    }

    #[test]
    fn directory_that_cannot_be_written_loses_lines_and_recovers() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let obstacle = directory.path().join("logs");
        fs::write(&obstacle, "").expect("write");
        let mut file = LogFile::new(obstacle.join("x.log"), LIMITS);
        file.append(b"lost\n");
        fs::remove_file(&obstacle).expect("remove");
        file.append(b"kept\n");
        assert_eq!(contents(&file), ["", "", "kept\n"]);
    }
}
