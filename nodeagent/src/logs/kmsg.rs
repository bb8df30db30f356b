//! The kernel's ring buffer, /dev/kmsg: each read gives one record (Documentation/ABI/testing/dev-kmsg).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{EINVAL, EPIPE, O_NONBLOCK};
use tokio::net::unix::pipe::Receiver;

/// The kernel's longest record is far below it (CONSOLE_EXT_LOG_MAX).
const RECORD_BYTES: usize = 8 * 1024;

#[derive(Debug)]
pub struct Kmsg {
    device: File,
    /// The same descriptor, for tokio to poll: it reads as a pipe does.
    polled: Receiver,
}

impl Kmsg {
    pub fn open(device: &Path) -> io::Result<Kmsg> {
        Kmsg::of(OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(device)?)
    }

    /// Any descriptor that gives one record a read, and would block when there are no more.
    fn of(device: File) -> io::Result<Kmsg> {
        Ok(Kmsg { polled: Receiver::from_owned_fd_unchecked(device.try_clone()?.into())?, device })
    }

    /// The next line that is there; `None` when there are no more for now.
    pub fn next(&self) -> io::Result<Option<String>> {
        next(|record| (&self.device).read(record))
    }

    /// The last of all lines that are there.
    pub fn tail(&self, lines: usize) -> io::Result<Vec<String>> {
        let mut last = VecDeque::with_capacity(lines);
        while let Some(line) = self.next()? {
            if last.len() == lines {
                last.pop_front();
            }
            last.push_back(line);
        }
        Ok(last.into())
    }

    /// Waits for one more line.
    pub async fn wait(&self) -> io::Result<String> {
        loop {
            self.polled.readable().await?;
            if let Some(line) = next(|record| self.polled.try_read(record))? {
                return Ok(line);
            }
        }
    }
}

fn next(read: impl Fn(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<String>> {
    let mut record = [0; RECORD_BYTES];
    loop {
        match read(&mut record) {
            Ok(0) => return Ok(None),
            Ok(bytes) => match line(&record[..bytes]) {
                Some(line) => return Ok(Some(line)),
                None => continue,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // EPIPE: the buffer went over records that were not read; the next read goes on with the oldest that is left.
            Err(error) if matches!(error.raw_os_error(), Some(EPIPE | EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// `6,1234,5140900,-;text` and further lines of keys as `[    5.140900] text`.
fn line(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let microseconds: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next().unwrap_or_default();
    Some(format!("[{:5}.{:06}] {text}", microseconds / 1_000_000, microseconds % 1_000_000))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::write;

    use super::*;

    /// A socket that keeps messages apart reads like /dev/kmsg.
    fn device() -> (OwnedFd, Kmsg) {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        (ours, Kmsg::of(theirs.into()).unwrap())
    }

    #[test]
    fn records_become_lines() {
        let record = b"6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=net\n";
        assert_eq!(line(record).unwrap(), "[    5.140900] NET: Registered PF_INET6");
        assert_eq!(line(b"30,1,12345000001,c;a;b\n").unwrap(), "[12345.000001] a;b");
        assert_eq!(line(b"garbage"), None);
    }

    #[tokio::test]
    async fn what_is_there_comes_at_once_and_more_comes_when_it_is_written() {
        let (kernel, kmsg) = device();
        write(&kernel, b"6,1,1000000,-;one\n").unwrap();
        write(&kernel, b"6,2,2000000,-;two\n").unwrap();
        assert_eq!(kmsg.next().unwrap().unwrap(), "[    1.000000] one");
        assert_eq!(kmsg.next().unwrap().unwrap(), "[    2.000000] two");
        assert_eq!(kmsg.next().unwrap(), None);
        for text in ["a", "b", "c"] {
            write(&kernel, format!("6,9,2500000,-;{text}\n").as_bytes()).unwrap();
        }
        assert_eq!(kmsg.tail(2).unwrap(), ["[    2.500000] b", "[    2.500000] c"]);
        let waiting = tokio::spawn(async move { kmsg.wait().await.unwrap() });
        write(&kernel, b"6,3,3000000,-;three\n").unwrap();
        assert_eq!(waiting.await.unwrap(), "[    3.000000] three");
    }
}
