//! The boot loader's partition: which slot is booted next, and how often it is tried.
//!
//! FAT has no journal, and a cut within a rename may leave two names for one file. So an entry is always written whole under a temporary
//! name and then renamed, never renamed from another entry, and what is newer is on the disk before what is older goes.

mod entry;
mod mount;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use machine::Root;
use machine::boot::{ENTRIES, IMAGES, image_path};
use machine::disk::Slot;

use crate::failpoint::Failpoints;
pub use entry::{Entry, Tries, current};
pub use mount::Opened;
use mount::Place;

/// The ESP of the disk that was booted. Every call is whole by itself and safe to repeat; all of them block.
#[derive(Debug, Clone)]
pub struct Esp {
    place: Place,
    failpoints: Failpoints,
}

impl Esp {
    /// On a partition's device node.
    pub fn on_partition(root: &Root, device: PathBuf, failpoints: Failpoints) -> Esp {
        Esp { place: Place::partition(root.clone(), device), failpoints }
    }

    /// In a directory that is there already.
    pub fn in_directory(directory: PathBuf, failpoints: Failpoints) -> Esp {
        Esp { place: Place::directory(directory), failpoints }
    }

    /// Keeps the files within reach for as long as the result lives.
    pub fn open(&self) -> anyhow::Result<Opened> {
        self.place.open()
    }

    /// All entries of slots, by file name.
    pub fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        entries(&self.open()?)
    }

    /// Makes the slot the one that the next boot tries, so often: its new entry has the highest number. This is the flip.
    pub fn flip(&self, slot: Slot, version: &str, profile: &str, tries: u32) -> anyhow::Result<u64> {
        let esp = self.open()?;
        let sequence = entries(&esp)?.iter().map(|entry| entry.sequence).max().unwrap_or(0) + 1;
        let text = entry::text(slot, &entry::title(version, profile), sequence);
        let name = entry::file_name(slot, Some(Tries { left: tries, done: 0 }));
        self.write(&esp, &name, &text).with_context(|| format!("writing the entry {name}"))?;
        self.remove_all_but(&esp, slot, Some(&name))?;
        Ok(sequence)
    }

    /// Has the boot loader count no more: the slot's image is good. `version` and `profile` are for a slot whose entry a fault destroyed.
    pub fn bless(&self, slot: Slot, version: &str, profile: &str) -> anyhow::Result<()> {
        let esp = self.open()?;
        let all = entries(&esp)?;
        let name = entry::file_name(slot, None);
        let found = current(&all, slot);
        if !found.is_some_and(Entry::blessed) {
            let highest = all.iter().map(|entry| entry.sequence).max().unwrap_or(0);
            let title = found.map_or_else(|| entry::title(version, profile), |entry| entry.title.clone());
            let text = entry::text(slot, &title, found.map_or(highest + 1, |entry| entry.sequence));
            self.write(&esp, &name, &text).with_context(|| format!("writing the entry {name}"))?;
        }
        self.remove_all_but(&esp, slot, Some(&name))
    }

    /// Leaves a slot on trial without tries: the next boot takes the other one. A slot without an entry stays as it is.
    pub fn condemn(&self, slot: Slot) -> anyhow::Result<()> {
        let esp = self.open()?;
        let all = entries(&esp)?;
        let Some(found) = current(&all, slot) else { return Ok(()) };
        let Some(tries) = found.tries else { bail!("slot {} is blessed: its entry has no counter to take from it", slot.name()) };
        let name = entry::file_name(slot, Some(Tries { left: 0, done: tries.done.max(1) }));
        if tries.left > 0 {
            self.write(&esp, &name, &entry::text(slot, &found.title, found.sequence))
                .with_context(|| format!("writing the entry {name}"))?;
        }
        let kept = if tries.left > 0 { &name } else { &found.file_name };
        self.remove_all_but(&esp, slot, Some(kept))
    }

    /// Takes the slot out of the boot order.
    pub fn remove(&self, slot: Slot) -> anyhow::Result<()> {
        self.remove_all_but(&self.open()?, slot, None)
    }

    /// Clears up what cuts left of one slot: temporary files, and all its entries but the one that counts.
    pub fn tidy(&self, slot: Slot) -> anyhow::Result<()> {
        let esp = self.open()?;
        let directory = esp.path().join(ENTRIES);
        for name in names(&directory)? {
            if name.starts_with(&format!(".corten-{}", slot.name())) && name.ends_with(".new") {
                fs::remove_file(directory.join(&name)).with_context(|| format!("removing {name}"))?;
            }
        }
        let all = entries(&esp)?;
        match current(&all, slot) {
            Some(kept) => self.remove_all_but(&esp, slot, Some(&kept.file_name)),
            None => Ok(()),
        }
    }

    /// Takes the UKI of a slot that is not to be booted any more as the beginning of its next one.
    pub fn reuse_image(&self, esp: &Opened, slot: Slot) -> anyhow::Result<()> {
        let (new, old) = (new_image(esp, slot), image(esp, slot));
        if new.exists() || !old.exists() {
            return Ok(());
        }
        let renamed = fs::rename(&old, &new).and_then(|()| sync(&new)).and_then(|()| sync(&esp.path().join(IMAGES)));
        renamed.with_context(|| format!("renaming {}", old.display()))?;
        Ok(self.failpoints.reach("esp::image-reused")?)
    }

    /// Puts the UKI that was written beside it in the place of the slot's own.
    pub fn replace_image(&self, esp: &Opened, slot: Slot) -> anyhow::Result<()> {
        let (new, place) = (new_image(esp, slot), image(esp, slot));
        let renamed = fs::rename(&new, &place).and_then(|()| self.failpoints.reach("esp::image-renamed"));
        // The file too: see `write`.
        renamed
            .and_then(|()| sync(&place))
            .and_then(|()| sync(&esp.path().join(IMAGES)))
            .with_context(|| format!("renaming {}", new.display()))?;
        Ok(self.failpoints.reach("esp::image-synced")?)
    }

    fn write(&self, esp: &Opened, name: &str, text: &str) -> io::Result<()> {
        let directory = esp.path().join(ENTRIES);
        let temporary = directory.join(format!(".{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // The temporary name itself is on the disk, so that the rename is all that is left to do.
        sync(&directory)?;
        self.failpoints.reach("esp::entry-written")?;
        fs::rename(&temporary, directory.join(name))?;
        self.failpoints.reach("esp::entry-renamed")?;
        // Linux' vfat_rename gives the new name no cluster and no size; only the file's own inode, written later, brings them there.
        file.sync_all()?;
        sync(&directory)?;
        self.failpoints.reach("esp::entry-synced")
    }

    fn remove_all_but(&self, esp: &Opened, slot: Slot, kept: Option<&str>) -> anyhow::Result<()> {
        let directory = esp.path().join(ENTRIES);
        let surplus = |entry: &Entry| entry.slot == slot && kept.is_none_or(|kept| !kept.eq_ignore_ascii_case(&entry.file_name));
        let mut removed = false;
        for entry in entries(esp)?.into_iter().filter(surplus) {
            fs::remove_file(directory.join(&entry.file_name)).with_context(|| format!("removing the entry {}", entry.file_name))?;
            removed = true;
            self.failpoints.reach("esp::entry-removed")?;
        }
        if removed {
            sync(&directory).with_context(|| format!("syncing {}", directory.display()))?;
            self.failpoints.reach("esp::removal-synced")?;
        }
        Ok(())
    }
}

/// The slot's UKI.
pub fn image(esp: &Opened, slot: Slot) -> PathBuf {
    esp.path().join(image_path(slot))
}

/// The UKI that is being written for the slot.
pub fn new_image(esp: &Opened, slot: Slot) -> PathBuf {
    esp.path().join(format!("{}.new", image_path(slot)))
}

fn entries(esp: &Opened) -> anyhow::Result<Vec<Entry>> {
    let directory = esp.path().join(ENTRIES);
    let mut entries = Vec::new();
    for name in names(&directory)? {
        // A damaged file is one without a text; reading more than an entry ever has would be a waste.
        let text = read_start(&directory.join(&name)).with_context(|| format!("reading the entry {name}"))?;
        entries.extend(Entry::parse(&name, &text));
    }
    entries.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    Ok(entries)
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let found = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    Ok(found.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

fn read_start(path: &Path) -> io::Result<String> {
    const MOST: u64 = 4096;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(File::open(path)?, MOST), &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
