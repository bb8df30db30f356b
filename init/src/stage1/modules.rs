//! The modules of the initramfs. image-build lists what any machine may need of them, in load order. Drivers are loaded one after the other
//! until the disk is there, and only those that this machine has a device for: each module costs a signature check.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use machine::Root;
use rustix::io::Errno;

use crate::console::Console;
use crate::files;

/// One absolute path a line, in load order.
const LIST: &str = "/usr/lib/modules.list";
/// Needed on the way to the root of an installation medium or of an initramfs that came over the network, and nowhere else.
pub const ISO: [&str; 2] = ["isofs", "loop"];
pub const NETWORK: [&str; 1] = ["loop"];
/// Keeps what the kernel says when it crashes: no device calls for it.
pub const CRASH_RECORDS: [&str; 1] = ["efi_pstore"];
/// Watchdogs that are ready as soon as their driver is.
pub const WATCHDOGS: [&str; 1] = ["i6300esb"];
/// `MODULE_INIT_COMPRESSED_FILE` (linux/module.h): the kernel decompresses.
const COMPRESSED: i32 = 4;

/// A module and what it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Module {
    path: PathBuf,
    /// As the kernel names it.
    name: String,
    /// Patterns of devices that it drives, such as `pci:v*d*sv*sd*bc01sc06i01*`.
    devices: Vec<String>,
    depends: Vec<String>,
    loaded: bool,
}

/// The list.
#[derive(Debug, Default)]
pub struct Modules(Vec<Module>);

impl Modules {
    pub fn read(root: &Root) -> Result<Modules, files::Error> {
        let path = root.path(LIST);
        let list = fs::read_to_string(&path).map_err(files::at("read", &path))?;
        let paths = list.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| root.path(line));
        Ok(Modules(paths.map(Module::read).collect()))
    }

    /// Loads the modules that drive no device: file systems, dm-verity, and what they stand on.
    pub fn load_general(&mut self, console: &Console) {
        for index in general(&self.0) {
            self.load(index, console);
        }
    }

    /// Loads modules by name, with what they stand on. What the list does not have is built into the kernel, or missing: that shows where
    /// it is needed.
    pub fn load_named(&mut self, names: &[&str], console: &Console) {
        let named: Vec<usize> = (0..self.0.len()).filter(|index| self.0.get(*index).is_some_and(|m| names.contains(&&*m.name))).collect();
        for index in with_dependencies(&self.0, &named) {
            self.load(index, console);
        }
    }

    /// Loads those of these drivers that there is a device for.
    pub fn load_drivers(&mut self, names: &[&str], root: &Root, console: &Console) {
        for index in with_dependencies(&self.0, &named_drivers(&self.0, names, &present(root, &self.0))) {
            self.load(index, console);
        }
    }

    /// Loads the next driver that there is a device for, and what it stands on; `false` when there is none left. Devices may appear later,
    /// on a bus whose driver has just been loaded.
    pub fn load_next_driver(&mut self, root: &Root, console: &Console) -> bool {
        let Some(driver) = next_driver(&self.0, &present(root, &self.0)) else { return false };
        for index in with_dependencies(&self.0, &[driver]) {
            self.load(index, console);
        }
        true
    }

    fn load(&mut self, index: usize, console: &Console) {
        let Some(module) = self.0.get_mut(index) else { return };
        // One that does not load is shown once: whether it was needed shows later.
        module.loaded = true;
        if let Err(error) = load(&module.path) {
            console.warning(&format!("module {}: {error}", module.path.display()));
        }
    }
}

/// The modules that drive no device, that no other of the list stands on and that are not for a medium, with what they stand on, in load
/// order.
fn general(modules: &[Module]) -> Vec<usize> {
    let stands_alone = |module: &Module| !modules.iter().any(|other| other.depends.contains(&module.name));
    let is_end = |module: &Module| module.devices.is_empty() && stands_alone(module) && !ISO.contains(&&*module.name);
    let ends: Vec<usize> = modules.iter().enumerate().filter(|(_, module)| is_end(module)).map(|(index, _)| index).collect();
    with_dependencies(modules, &ends)
}

/// The first driver, not loaded yet, of a device that is there.
fn next_driver(modules: &[Module], present: &BTreeSet<String>) -> Option<usize> {
    modules.iter().position(|module| !module.loaded && module.drives(present))
}

fn named_drivers(modules: &[Module], names: &[&str], present: &BTreeSet<String>) -> Vec<usize> {
    let is_one = |module: &Module| names.contains(&&*module.name) && module.drives(present);
    modules.iter().enumerate().filter(|(_, module)| is_one(module)).map(|(index, _)| index).collect()
}

/// These modules and what they stand on, as far as not loaded yet, in load order.
fn with_dependencies(modules: &[Module], ends: &[usize]) -> Vec<usize> {
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    let mut todo: Vec<&Module> = ends.iter().filter_map(|index| modules.get(*index)).collect();
    while let Some(module) = todo.pop() {
        if wanted.insert(&module.name) {
            todo.extend(modules.iter().filter(|other| module.depends.contains(&other.name)));
        }
    }
    let fresh = |module: &Module| !module.loaded && wanted.contains(module.name.as_str());
    modules.iter().enumerate().filter(|(_, module)| fresh(module)).map(|(index, _)| index).collect()
}

/// The devices on the buses that any of the modules drives devices of.
fn present(root: &Root, modules: &[Module]) -> BTreeSet<String> {
    let patterns = modules.iter().flat_map(|module| &module.devices);
    let buses: BTreeSet<&str> = patterns.filter_map(|pattern| Some(pattern.split_once(':')?.0)).collect();
    let mut present = BTreeSet::new();
    for bus in buses {
        let devices = fs::read_dir(root.path(&format!("/sys/bus/{bus}/devices"))).into_iter().flatten().flatten();
        let files = devices.map(|device| device.path().join("modalias")).chain([root.path(&format!("/sys/devices/system/{bus}/modalias"))]);
        present.extend(files.filter_map(|file| Some(fs::read_to_string(file).ok()?.trim().to_owned())));
    }
    present
}

impl Module {
    /// Reads a module's file. A compressed one says nothing: it is loaded in any case.
    fn read(path: PathBuf) -> Module {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('.').next()).unwrap_or_default();
        let mut module = Module { name: name.replace('-', "_"), ..Module::default() };
        if !is_compressed(&path) {
            for field in fs::read(&path).unwrap_or_default().split(|byte| *byte == 0) {
                module.note(field);
            }
        }
        Module { path, ..module }
    }

    fn drives(&self, present: &BTreeSet<String>) -> bool {
        self.devices.iter().any(|pattern| present.iter().any(|device| matches(pattern.as_bytes(), device.as_bytes())))
    }

    /// A field of the section .modinfo, `key=value`.
    fn note(&mut self, field: &[u8]) {
        if let Some(alias) = field.strip_prefix(b"alias=") {
            // A colon divides bus and device; `fs-erofs` and `devname:mapper/control` are no devices.
            let alias = String::from_utf8_lossy(alias).into_owned();
            self.devices.extend(Some(alias).filter(|alias| alias.contains(':') && !alias.starts_with("devname:")));
        } else if let Some(depends) = field.strip_prefix(b"depends=") {
            let names = String::from_utf8_lossy(depends).replace('-', "_");
            self.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
        }
    }
}

/// Whether a name fits a pattern of `*`, `?`, sets such as `[0-9]`, and characters that stand for themselves.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|skipped| matches(rest, name.get(skipped..).unwrap_or_default())),
        [b'[', rest @ ..] => {
            let (Some(end), [first, tail @ ..]) = (rest.iter().position(|byte| *byte == b']'), name) else { return false };
            let (set, behind) = rest.split_at(end);
            in_set(set, *first) && matches(behind.get(1..).unwrap_or_default(), tail)
        }
        [one, rest @ ..] => matches!(name, [first, tail @ ..] if (*one == b'?' || one == first) && matches(rest, tail)),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    match set {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&byte) || in_set(rest, byte),
        [one, rest @ ..] => *one == byte || in_set(rest, byte),
        [] => false,
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_none_or(|extension| extension != "ko")
}

fn load(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let flags = if is_compressed(path) { COMPRESSED } else { 0 };
    match rustix::system::finit_module(&file, c"", flags) {
        // Loaded already, no such hardware, or built on a module that found no such hardware (an unknown symbol): all are fine.
        Ok(()) | Err(Errno::EXIST | Errno::NODEV | Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, devices: &[&str], depends: &[&str]) -> Module {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Module { name: name.into(), devices: own(devices), depends: own(depends), ..Module::default() }
    }

    fn list() -> Vec<Module> {
        vec![
            module("virtio_blk", &["virtio:d00000002v*"], &[]),
            module("scsi_mod", &[], &[]),
            module("libata", &[], &["scsi_mod"]),
            module("ahci", &["pci:v*d*sv*sd*bc01sc06i01*"], &["libata"]),
            module("sd_mod", &["scsi:t-0x00*"], &["scsi_mod"]),
            module("dm_mod", &[], &[]),
            module("dm_verity", &[], &["dm_mod"]),
            module("erofs", &[], &[]),
            module("cdrom", &[], &[]),
            module("sr_mod", &["scsi:t-0x05*"], &["scsi_mod", "cdrom"]),
            module("isofs", &[], &["cdrom"]),
            module("loop", &[], &[]),
        ]
    }

    fn names(modules: &[Module], indices: Vec<usize>) -> Vec<&str> {
        indices.into_iter().map(|index| modules[index].name.as_str()).collect()
    }

    #[test]
    fn what_drives_no_device_is_loaded_first() {
        let modules = list();
        assert_eq!(names(&modules, general(&modules)), ["dm_mod", "dm_verity", "erofs"]);
    }

    #[test]
    fn what_a_medium_needs_is_loaded_by_name() {
        let modules = list();
        let named = |names: &[&str]| {
            let ends: Vec<usize> = (0..modules.len()).filter(|index| names.contains(&&*modules[*index].name)).collect();
            self::names(&modules, with_dependencies(&modules, &ends))
        };
        assert_eq!(named(&ISO), ["cdrom", "isofs", "loop"]);
        assert_eq!(named(&NETWORK), ["loop"]);
    }

    #[test]
    fn drivers_are_loaded_one_by_one_for_devices_that_are_there() {
        let mut modules = list();
        let present = BTreeSet::from(
            ["virtio:d00000002v00001AF4", "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", "scsi:t-0x00"].map(str::to_owned),
        );
        let mut loaded = Vec::new();
        while let Some(driver) = next_driver(&modules, &present) {
            let indices = with_dependencies(&modules, &[driver]);
            loaded.push(names(&modules, indices.clone()).join("+"));
            indices.into_iter().for_each(|index| modules[index].loaded = true);
        }
        assert_eq!(loaded, ["virtio_blk", "scsi_mod+libata+ahci", "sd_mod"]);
        assert_eq!(next_driver(&list(), &BTreeSet::new()), None);
    }

    #[test]
    fn a_named_driver_is_loaded_where_its_device_is() {
        let modules = list();
        let there = BTreeSet::from(["scsi:t-0x00".to_owned()]);
        assert_eq!(names(&modules, named_drivers(&modules, &["sd_mod", "ahci", "loop"], &there)), ["sd_mod"]);
    }

    #[test]
    fn patterns_match_as_the_kernel_means_them() {
        for (pattern, name, expected) in [
            ("pci:v*d*", "pci:v1d2", true),
            ("pci:v*d*", "pci:v1", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("i[0-3x]", "i2", true),
            ("i[0-3x]", "ix", true),
            ("i[0-3x]", "i4", false),
            ("i[0-3", "i2", false),
            ("*", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn module_says_what_it_drives_and_needs() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("dm-verity.ko");
        let info =
            b"\x7fELF\0license=GPL\0alias=fs-x\0alias=pci:v1*\0alias=devname:mapper/control\0depends=dm-mod,dm-bufio\0name=dm_verity\0";
        fs::write(&path, info).expect("write");
        let expected = Module { path: path.clone(), ..module("dm_verity", &["pci:v1*"], &["dm_mod", "dm_bufio"]) };
        assert_eq!(Module::read(path), expected);
        let compressed = directory.path().join("erofs.ko.xz");
        fs::write(&compressed, info).expect("write");
        assert_eq!(Module::read(compressed.clone()), Module { path: compressed, ..module("erofs", &[], &[]) });
    }

    #[test]
    fn devices_are_read_from_the_buses_that_matter() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        for (path, alias) in
            [("bus/virtio/devices/virtio0", "virtio:d2"), ("bus/usb/devices/1", "usb:x"), ("devices/system/scsi", "scsi:y")]
        {
            fs::create_dir_all(root.path("/sys").join(path)).expect("make");
            fs::write(root.path("/sys").join(path).join("modalias"), format!("{alias}\n")).expect("write");
        }
        assert_eq!(present(&root, &list()).into_iter().collect::<Vec<_>>(), ["scsi:y", "virtio:d2"]);
    }
}
