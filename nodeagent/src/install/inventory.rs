//! The machine's disks as sysfs shows them (Documentation/ABI/stable/sysfs-block), and what is on them as far as anybody can tell from
//! outside.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use machine::Root;
use machine::config::DiskType;
use machine::disk::Partition;
use machine::disk::content::{HEAD_BYTES, of_head};

use crate::resources::disks::Disk;

const SECTORS: &str = "/sys/class/block";

/// All of them, by name. `own` is the device node of the disk that is this machine's, if it has one.
pub fn read(root: &Root, own: &str) -> anyhow::Result<Vec<Disk>> {
    let directory = root.path(SECTORS);
    let entries = fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    let mounts = fs::read_to_string(root.path("/proc/self/mountinfo")).unwrap_or_default();
    // What vanishes between two reads is not there.
    Ok(names.into_iter().filter_map(|name| read_one(root, &name, own, &mounts)).collect())
}

/// `None` for what is no disk: partitions, optical drives, and what the kernel makes up itself.
fn read_one(root: &Root, name: &str, own: &str, mounts: &str) -> Option<Disk> {
    let place = Place(root.path(SECTORS).join(name));
    let sectors: u64 = place.text("size").parse().ok()?;
    if sectors == 0 || name.starts_with("sr") || !place.has("device") || place.has("partition") {
        return None;
    }
    let path = format!("/dev/{name}");
    let partitions = place.partitions();
    let kind = match (name.starts_with("nvme"), place.text("queue/rotational").as_str()) {
        (true, _) => DiskType::Nvme,
        (false, "1") => DiskType::Hdd,
        (false, _) => DiskType::Ssd,
    };
    Some(Disk {
        serial: place.first(&["serial", "device/serial"]).or_else(|| place.vital_serial()).unwrap_or_default(),
        wwn: place.first(&["wwid", "device/wwid"]).unwrap_or_default(),
        model: place.first(&["device/model", "device/name"]).unwrap_or_default(),
        // Whatever the disk's sectors have, sysfs counts in 512 bytes.
        size_bytes: sectors.saturating_mul(512),
        sector_bytes: place.text("queue/logical_block_size").parse().unwrap_or(512),
        kind,
        read_only: place.text("ro") == "1",
        removable: place.text("removable") == "1",
        corten: is_corten(&partitions),
        used_as: used_as(root, &place, &partitions, &path, own, mounts),
        holds: holds(&partitions, &root.path(&path)),
        path,
    })
}

/// A disk's directory in sysfs.
struct Place(PathBuf);

struct Seen {
    place: Place,
    label: String,
}

impl Place {
    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    fn text(&self, name: &str) -> String {
        let text = fs::read(self.0.join(name)).unwrap_or_default();
        printable(&text)
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().map(|name| self.text(name)).find(|text| !text.is_empty())
    }

    /// The unit serial number of a SCSI disk: a header of four bytes, then text (SPC-4, 7.8.15).
    fn vital_serial(&self) -> Option<String> {
        const HEADER_BYTES: usize = 4;
        let page = fs::read(self.0.join("device/vpd_pg80")).ok()?;
        Some(printable(page.get(HEADER_BYTES..)?)).filter(|serial| !serial.is_empty())
    }

    /// A partition's directory lies in that of its disk.
    fn partitions(&self) -> Vec<Seen> {
        let entries = fs::read_dir(&self.0).into_iter().flatten();
        let mut found: Vec<(u32, Seen)> = entries
            .filter_map(|entry| {
                let place = Place(entry.ok()?.path());
                let number: u32 = place.text("partition").parse().ok()?;
                let uevent = fs::read_to_string(place.0.join("uevent")).unwrap_or_default();
                let label = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME=")).unwrap_or_default();
                let label = if label.is_empty() { format!("partition {number}") } else { label.escape_debug().to_string() };
                Some((number, Seen { place, label }))
            })
            .collect();
        found.sort_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, seen)| seen).collect()
    }
}

/// What disks say of themselves is padded with spaces and zeros, and not always text.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|character| !character.is_control()).collect::<String>().trim().to_owned()
}

fn is_corten(partitions: &[Seen]) -> bool {
    let ours = |seen: &Seen| Partition::ALL.iter().any(|partition| partition.label() == seen.label);
    partitions.iter().any(|seen| seen.label == Partition::RootA.label()) && partitions.iter().all(ours)
}

fn holds(partitions: &[Seen], device: &Path) -> String {
    if !partitions.is_empty() {
        let labels: Vec<&str> = partitions.iter().map(|seen| seen.label.as_str()).collect();
        return format!("partitions {}", labels.join(", "));
    }
    read_head(device).ok().and_then(|head| of_head(&head)).unwrap_or_default()
}

fn read_head(device: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(device)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn used_as(root: &Root, disk: &Place, partitions: &[Seen], path: &str, own: &str, mounts: &str) -> String {
    if path == own {
        return "this machine's disk".to_owned();
    }
    let medium = Path::new("/").join(root.medium().strip_prefix(root.directory()).unwrap_or(Path::new("")));
    for place in partitions.iter().map(|seen| &seen.place).chain([disk]) {
        let number = place.text("dev");
        // proc_pid_mountinfo(5): the device is the third field, the mount point the fifth.
        let mounted = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&number.as_str()));
        match mounted.and_then(|fields| fields.get(4).copied()) {
            Some(target) if Path::new(target) == medium => return "the installation medium".to_owned(),
            Some(target) => return format!("mounted on {target}"),
            None => {}
        }
        // RAID, device mapper and the like.
        if let Some(holder) = fs::read_dir(place.0.join("holders")).into_iter().flatten().flatten().next() {
            return format!("part of {}", holder.file_name().to_string_lossy());
        }
    }
    String::new()
}

#[cfg(test)]
mod tests;
