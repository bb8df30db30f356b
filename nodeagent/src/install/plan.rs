//! Which disk an installation goes to, and what it does there, in words.

use machine::config::{DiskSelector, DiskType, Install};
use machine::disk::{self, BadDisk, Partition};
use machine::protocol::ImageFacts;

use super::medium::Medium;
use crate::resources::disks::Disk;

/// Field of the machine config that names the disk.
pub const FIELD: &str = "machine.install.disk";
const WIPE: &str = "machine.install.wipe";
const GIB: u64 = 1 << 30;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub install: Option<&'a Install>,
    /// Of the image.
    pub partitions: &'a [Partition],
    /// The disk on which an installation of this boot has got so far that no other one can be taken any more; empty before.
    pub adopted: &'a str,
}

/// An installation that may begin.
#[derive(Debug)]
pub struct Plan {
    pub disk: Disk,
    pub wipe: bool,
    /// The disk is laid out and adopted already.
    pub resumed: bool,
    pub image: ImageFacts,
    pub medium: Medium,
}

/// Why no disk, or not the one that was named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDisk {
    #[error("no disk has {wanted}; the machine has {disks}")]
    NoneMatches { wanted: String, disks: String },
    #[error("{wanted} cannot be installed on: {problems}")]
    NoneFits { wanted: String, problems: String },
    #[error("several disks have {wanted}: {disks}; name one of them by path, serial or wwn")]
    Several { wanted: String, disks: String },
    #[error("no field; expected the disk to install to, because the machine has several: {0}")]
    Choose(String),
    #[error("no disk can be installed on; the machine has {0}")]
    Nothing(String),
    #[error("{path} holds {holds}; expected true if nothing of that is needed any more, or another disk in {FIELD}")]
    Holds { path: String, holds: String },
    #[error("{path}: an installation on {adopted} has begun in this boot; name that disk, or reboot the medium first")]
    Adopted { path: String, adopted: String },
}

impl NoDisk {
    /// The field of the config that is to be changed.
    pub fn field(&self) -> &'static str {
        match self {
            NoDisk::Holds { .. } => WIPE,
            _ => FIELD,
        }
    }
}

/// Why a disk is not installed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Unfit {
    #[error("it is {0}")]
    Used(String),
    #[error("it is read-only")]
    ReadOnly,
    #[error("it is removable; name it by its path if it is meant")]
    Removable,
    #[error(transparent)]
    Bad(#[from] BadDisk),
}

impl Wanted<'_> {
    pub fn wipe(&self) -> bool {
        self.install.is_some_and(|install| install.wipe)
    }

    fn selector(&self) -> Option<&DiskSelector> {
        self.install.map(|install| &install.disk)
    }

    fn fits(&self, disk: &Disk) -> Result<(), Unfit> {
        let own = !self.adopted.is_empty() && disk.path == self.adopted;
        if !disk.used_as.is_empty() && !own {
            return Err(Unfit::Used(disk.used_as.clone()));
        }
        if disk.read_only {
            return Err(Unfit::ReadOnly);
        }
        if disk.removable && self.selector().is_none_or(|selector| selector.path.is_none()) {
            return Err(Unfit::Removable);
        }
        Ok(disk::layout(self.partitions, disk.size_bytes, disk.sector_bytes).map(drop)?)
    }
}

/// The disk to install to: the only one that all given fields match and that can be installed on.
pub fn choose<'a>(disks: &'a [Disk], wanted: &Wanted<'_>) -> Result<&'a Disk, NoDisk> {
    let matching: Vec<&Disk> = disks.iter().filter(|disk| wanted.selector().is_none_or(|selector| matches(selector, disk))).collect();
    let fitting: Vec<&Disk> = matching.iter().copied().filter(|disk| wanted.fits(disk).is_ok()).collect();
    let disk = match (fitting.as_slice(), wanted.selector()) {
        ([one], _) => *one,
        ([], None) => return Err(NoDisk::Nothing(list(disks, wanted))),
        ([], Some(selector)) if matching.is_empty() => {
            return Err(NoDisk::NoneMatches { wanted: words(selector), disks: list(disks, wanted) });
        }
        ([], Some(selector)) => {
            let problem = |disk: &&Disk| Some(format!("{}: {}", disk.path, wanted.fits(disk).err()?));
            let problems: Vec<String> = matching.iter().filter_map(problem).collect();
            return Err(NoDisk::NoneFits { wanted: format!("a disk with {}", words(selector)), problems: problems.join("; ") });
        }
        (several, None) => return Err(NoDisk::Choose(list(several.iter().copied(), wanted))),
        (several, Some(selector)) => {
            return Err(NoDisk::Several { wanted: words(selector), disks: list(several.iter().copied(), wanted) });
        }
    };
    if !wanted.adopted.is_empty() && disk.path != wanted.adopted {
        return Err(NoDisk::Adopted { path: disk.path.clone(), adopted: wanted.adopted.to_owned() });
    }
    // Corten's own partitions may be those of an installation that was cut short: init knows, and refuses what is not.
    if !disk.holds.is_empty() && !disk.corten && !wanted.wipe() {
        return Err(NoDisk::Holds { path: disk.path.clone(), holds: disk.holds.clone() });
    }
    Ok(disk)
}

fn matches(selector: &DiskSelector, disk: &Disk) -> bool {
    let DiskSelector { path, serial, wwn, min_size, kind } = selector;
    let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted.trim().eq_ignore_ascii_case(found));
    path.as_ref().is_none_or(|path| *path == disk.path)
        && same(serial, &disk.serial)
        && same(wwn, &disk.wwn)
        && min_size.is_none_or(|least| disk.size_bytes >= least.0)
        && kind.is_none_or(|kind| kind == disk.kind)
}

fn words(selector: &DiskSelector) -> String {
    let DiskSelector { path, serial, wwn, min_size, kind } = selector;
    let given = [
        path.as_ref().map(|path| format!("path {path:?}")),
        serial.as_ref().map(|serial| format!("serial {serial:?}")),
        wwn.as_ref().map(|wwn| format!("wwn {wwn:?}")),
        min_size.map(|least| format!("minSize {least}")),
        kind.map(|kind| format!("type {}", type_name(kind))),
    ];
    given.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn list<'a>(disks: impl IntoIterator<Item = &'a Disk>, wanted: &Wanted<'_>) -> String {
    let line = |disk: &Disk| {
        let unfit = wanted.fits(disk).err().map(|unfit| format!(": {unfit}")).unwrap_or_default();
        format!("{}{unfit}", describe(disk))
    };
    let lines: Vec<String> = disks.into_iter().map(line).collect();
    if lines.is_empty() { "none".to_owned() } else { lines.join("; ") }
}

/// `/dev/vda (hdd, 20.0 GiB, serial "X1", no wwn)`
fn describe(disk: &Disk) -> String {
    let named = |what: &str, text: &str| if text.is_empty() { format!("no {what}") } else { format!("{what} {text:?}") };
    let size = disk.size_bytes as f64 / GIB as f64;
    let (serial, wwn) = (named("serial", &disk.serial), named("wwn", &disk.wwn));
    format!("{} ({}, {size:.1} GiB, {serial}, {wwn})", disk.path, type_name(disk.kind))
}

fn type_name(kind: DiskType) -> &'static str {
    match kind {
        DiskType::Nvme => "nvme",
        DiskType::Ssd => "ssd",
        DiskType::Hdd => "hdd",
    }
}

impl Plan {
    /// What is done, step by step, for whoever asked.
    pub fn words(&self) -> Vec<String> {
        let Plan { disk, image, .. } = self;
        let layout = match (self.resumed, disk.holds.as_str()) {
            (true, _) => format!("go on with the installation on {}", describe(disk)),
            (false, "") => format!("write a partition table to {}", describe(disk)),
            (false, holds) => format!("write a partition table to {}, which holds {holds}: all of that is lost", describe(disk)),
        };
        vec![
            layout,
            format!("copy {} ({}) from the medium to slot a of that disk, and read it back", image.version, image.profile),
            "make its STATE volume, and keep the config there as generation 1".to_owned(),
            "register the disk with the firmware, reboot from it, and go on with the config".to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests;
