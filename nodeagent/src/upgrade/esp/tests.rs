//! Crash safety: every step is cut once, and what is left must boot the old or the new, and be brought to its end by doing it again.

use std::sync::Arc;
use std::sync::Mutex;

use super::*;

struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    fn new(entries: &[(&str, u64)]) -> Folder {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join(ENTRIES)).unwrap();
        fs::create_dir_all(directory.path().join(IMAGES)).unwrap();
        for (name, sequence) in entries {
            let slot = Entry::parse(name, "").unwrap().slot;
            fs::write(directory.path().join(ENTRIES).join(name), entry::text(slot, &entry::title("0.1.0", "bare"), *sequence)).unwrap();
        }
        Folder { directory }
    }

    fn esp(&self, failpoints: Failpoints) -> Esp {
        Esp::in_directory(self.directory.path().to_owned(), failpoints)
    }

    fn names(&self) -> Vec<String> {
        let mut names = names(&self.directory.path().join(ENTRIES)).unwrap();
        names.sort();
        names
    }

    /// What the boot loader takes next: tries left first, then the higher version (systemd's boot.c, boot_entry_compare).
    fn next_boot(&self) -> Option<Slot> {
        let entries = self.esp(Failpoints::default()).entries().unwrap();
        let good = entries.iter().filter(|entry| entry.usable);
        good.max_by_key(|entry| (entry.tries.is_none_or(|tries| tries.left > 0), entry.sequence)).map(|entry| entry.slot)
    }
}

/// Lets so many points pass, and cuts at the next one.
fn cut_after(passed: usize) -> (Failpoints, Arc<Mutex<Vec<&'static str>>>) {
    let reached = Arc::new(Mutex::new(Vec::new()));
    let seen = reached.clone();
    let failpoints = Failpoints::new(move |name| {
        let mut seen = seen.lock().unwrap();
        seen.push(name);
        if seen.len() > passed { Err(io::Error::other(format!("cut at {name}"))) } else { Ok(()) }
    });
    (failpoints, reached)
}

/// Cuts the work at each of its points in turn: `check` sees what is left, then the work is done again, and the entries must be these.
fn cut_everywhere(before: &[(&str, u64)], work: impl Fn(&Esp) -> anyhow::Result<()>, check: impl Fn(&Folder), after: &[&str]) {
    for passed in 0.. {
        let folder = Folder::new(before);
        let (failpoints, reached) = cut_after(passed);
        let cut = work(&folder.esp(failpoints)).is_err();
        check(&folder);
        let esp = folder.esp(Failpoints::default());
        for slot in Slot::ALL {
            esp.tidy(slot).unwrap();
        }
        work(&esp).unwrap();
        assert_eq!(folder.names(), after, "after {:?}", reached.lock().unwrap());
        if !cut {
            assert!(passed > 0, "the work passes no point");
            return;
        }
    }
}

const BLESSED_A: &[(&str, u64)] = &[("corten-a.conf", 1)];
const B_ON_TRIAL: &[(&str, u64)] = &[("corten-a.conf", 1), ("corten-b+2-1.conf", 2)];

#[test]
fn flip() {
    let check = |folder: &Folder| assert!(folder.next_boot().is_some());
    let work = |esp: &Esp| esp.flip(Slot::B, "0.2.0", "bare", 3).map(drop);
    cut_everywhere(BLESSED_A, work, check, &["corten-a.conf", "corten-b+3.conf"]);
    // Back to a slot that was good before: its old entry goes when the new one is there.
    let both = [("corten-a.conf", 1), ("corten-b.conf", 2)];
    cut_everywhere(&both, |esp| esp.flip(Slot::A, "0.1.0", "bare", 3).map(drop), check, &["corten-a+3.conf", "corten-b.conf"]);
}

#[test]
fn a_new_entry_comes_first_in_the_next_boot() {
    let folder = Folder::new(&[("corten-a.conf", 1), ("corten-b.conf", 7)]);
    assert_eq!(folder.next_boot(), Some(Slot::B));
    let esp = folder.esp(Failpoints::default());
    assert_eq!(esp.flip(Slot::A, "0.1.0", "bare", 3).unwrap(), 8);
    assert_eq!(folder.next_boot(), Some(Slot::A));
    esp.condemn(Slot::A).unwrap();
    assert_eq!((folder.next_boot(), folder.names()), (Some(Slot::B), vec!["corten-a+0-1.conf".to_owned(), "corten-b.conf".to_owned()]));
}

#[test]
fn bless() {
    let check = |folder: &Folder| assert_eq!(folder.next_boot(), Some(Slot::B));
    let work = |esp: &Esp| esp.bless(Slot::B, "0.2.0", "bare");
    cut_everywhere(B_ON_TRIAL, work, check, &["corten-a.conf", "corten-b.conf"]);
    let back = [("corten-a.conf", 1), ("corten-b.conf", 2), ("corten-a+2-1.conf", 3)];
    cut_everywhere(&back, |esp| esp.bless(Slot::A, "0.1.0", "bare"), |_| {}, &["corten-a.conf", "corten-b.conf"]);
}

#[test]
fn bless_keeps_the_number_and_makes_up_for_a_lost_entry() {
    let folder = Folder::new(B_ON_TRIAL);
    let esp = folder.esp(Failpoints::default());
    esp.bless(Slot::B, "0.2.0", "bare").unwrap();
    assert_eq!(current(&esp.entries().unwrap(), Slot::B).map(|entry| (entry.sequence, entry.blessed())), Some((2, true)));
    // A repair of the file system left the name without the contents.
    fs::write(folder.directory.path().join("loader/entries/corten-b.conf"), "").unwrap();
    assert_eq!(folder.next_boot(), Some(Slot::A));
    esp.bless(Slot::B, "0.2.0", "bare").unwrap();
    assert_eq!(folder.next_boot(), Some(Slot::B));
    assert_eq!(current(&esp.entries().unwrap(), Slot::B).and_then(Entry::image), Some(("0.2.0", "bare")));
}

#[test]
fn condemn() {
    let either = |folder: &Folder| assert!(folder.next_boot().is_some());
    cut_everywhere(B_ON_TRIAL, |esp| esp.condemn(Slot::B), either, &["corten-a.conf", "corten-b+0-1.conf"]);
    let folder = Folder::new(BLESSED_A);
    let blessed = folder.esp(Failpoints::default());
    assert!(blessed.condemn(Slot::A).unwrap_err().to_string().contains("slot a is blessed"));
    blessed.condemn(Slot::B).unwrap();
}

#[test]
fn remove() {
    let check = |folder: &Folder| assert_eq!(folder.next_boot(), Some(Slot::A));
    let before = [("corten-a.conf", 3), ("corten-b.conf", 2), ("corten-b+2-1.conf", 1)];
    cut_everywhere(&before, |esp| esp.remove(Slot::B), check, &["corten-a.conf"]);
}

#[test]
fn tidy_keeps_what_counts() {
    let folder = Folder::new(&[("corten-a.conf", 1), ("corten-b.conf", 2), ("corten-b+2-1.conf", 2), ("corten-b+3.conf", 1)]);
    fs::write(folder.directory.path().join("loader/entries/.corten-b.conf.new"), "half").unwrap();
    fs::write(folder.directory.path().join("loader/entries/other.conf"), "").unwrap();
    folder.esp(Failpoints::default()).tidy(Slot::A).unwrap();
    assert_eq!(folder.names().len(), 6, "the other slot's are left");
    folder.esp(Failpoints::default()).tidy(Slot::B).unwrap();
    assert_eq!(folder.names(), ["corten-a.conf", "corten-b.conf", "other.conf"]);
}

#[test]
fn an_image_takes_its_place() {
    let folder = Folder::new(BLESSED_A);
    let esp = folder.esp(Failpoints::default());
    let opened = esp.open().unwrap();
    fs::write(image(&opened, Slot::B), "old").unwrap();
    fs::write(new_image(&opened, Slot::B), "new").unwrap();
    esp.replace_image(&opened, Slot::B).unwrap();
    assert_eq!(fs::read_to_string(image(&opened, Slot::B)).unwrap(), "new");
    let error = esp.replace_image(&opened, Slot::B).unwrap_err();
    assert!(format!("{error:#}").contains("b.efi.new"), "{error:#}");
}
