//! Disks (`/proc/diskstats`) and network interfaces (`/proc/net/dev`).

use std::fmt;

use crate::parse::{number, words};

/// A device's name, without an allocation: kernels allow 31 bytes at most.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Label {
    bytes: [u8; 32],
    length: u8,
}

impl Label {
    /// `None` for what is no text, or too long for a device's name.
    pub fn new(name: &[u8]) -> Option<Label> {
        let mut label = Label { bytes: [0; 32], length: u8::try_from(name.len()).ok()? };
        label.bytes.get_mut(..name.len())?.copy_from_slice(name);
        std::str::from_utf8(name).is_ok().then_some(label)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disk {
    pub name: Label,
    pub reads: u64,
    pub read_bytes: u64,
    pub read_msec: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub write_msec: u64,
    pub under_way: u64,
    /// Time in which at least one request was under way.
    pub busy_msec: u64,
    /// The same by how many were.
    pub waited_msec: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: Label,
    pub received: Traffic,
    pub sent: Traffic,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// A sector of diskstats, whatever the disk's own are (Documentation/admin-guide/iostats.rst).
const SECTOR: u64 = 512;

/// Disks and partitions that were ever read or written; loop and ram devices are left out.
pub fn disks(text: &[u8], into: &mut Vec<Disk>) {
    into.clear();
    into.extend(text.split(|byte| *byte == b'\n').filter_map(disk).filter(|disk| disk.reads + disk.writes > 0));
}

fn disk(line: &[u8]) -> Option<Disk> {
    let mut words = words(line).skip(2);
    let name = words.next()?;
    if [&b"loop"[..], b"ram"].iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let name = Label::new(name)?;
    let mut values = words.map(number);
    let mut value = || values.next().flatten();
    let (reads, _merged, read, read_msec) = (value()?, value()?, value()?, value()?);
    let (writes, _merged, written, write_msec) = (value()?, value()?, value()?, value()?);
    let (under_way, busy_msec, waited_msec) = (value()?, value()?, value()?);
    let (read_bytes, written_bytes) = (read * SECTOR, written * SECTOR);
    Some(Disk { name, reads, read_bytes, read_msec, writes, written_bytes, write_msec, under_way, busy_msec, waited_msec })
}

pub fn interfaces(text: &[u8]) -> impl Iterator<Item = Interface> {
    text.split(|byte| *byte == b'\n').filter_map(interface)
}

/// The same without the pods' ends.
pub fn own_interfaces(text: &[u8], into: &mut Vec<Interface>) {
    into.clear();
    into.extend(interfaces(text).filter(|interface| !interface.name.as_str().starts_with("veth")));
}

/// `  eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop fifo colls carrier compressed`
fn interface(line: &[u8]) -> Option<Interface> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = Label::new(line[..colon].trim_ascii())?;
    let mut values = [0; 16];
    for (value, word) in values.iter_mut().zip(words(&line[colon + 1..])) {
        *value = number(word)?;
    }
    let traffic = |at: usize| Traffic { bytes: values[at], packets: values[at + 1], errors: values[at + 2], dropped: values[at + 3] };
    Some(Interface { name, received: traffic(0), sent: traffic(8) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_in_bytes() {
        let text = b"   7       0 loop0 5 0 10 1 0 0 0 0 0 1 1\n 254       0 vda 10 2 100 30 20 4 200 60 0 70 90 0 0 0 0\n 254       1 vda1 0 0 0 0 0 0 0 0 0 0 0\n";
        let mut found = Vec::new();
        disks(text, &mut found);
        let vda = Disk {
            name: Label::new(b"vda").unwrap(),
            reads: 10,
            read_bytes: 51_200,
            read_msec: 30,
            writes: 20,
            written_bytes: 102_400,
            write_msec: 60,
            under_way: 0,
            busy_msec: 70,
            waited_msec: 90,
        };
        assert_eq!(found, [vda]);
    }

    #[test]
    fn interfaces_without_the_pods_ends() {
        let text = b"Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\nveth12: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let mut found = Vec::new();
        own_interfaces(text, &mut found);
        let lo = Interface {
            name: Label::new(b"lo").unwrap(),
            received: Traffic { bytes: 1, packets: 2, errors: 3, dropped: 4 },
            sent: Traffic { bytes: 5, packets: 6, errors: 7, dropped: 8 },
        };
        assert_eq!(found, [lo]);
    }
}
