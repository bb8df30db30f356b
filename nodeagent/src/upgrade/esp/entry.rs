//! Entries of the boot loader, as file names and texts (UAPI Boot Loader Specification; counters as systemd's Automatic Boot Assessment
//! writes them). One entry starts one slot's UKI.

pub use machine::boot::{entry as text, title};
use machine::disk::Slot;

/// One file of `loader/entries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub slot: Slot,
    /// `None`: blessed, the boot loader does not count.
    pub tries: Option<Tries>,
    /// Of two entries with tries left the higher one is booted; 0 where the text has none.
    pub sequence: u64,
    pub title: String,
    /// Whether the boot loader would show it: an entry without a program is passed over.
    pub usable: bool,
    pub file_name: String,
}

/// The boot loader's counters in an entry's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    pub left: u32,
    pub done: u32,
}

impl Entry {
    /// `None` for a file that is no entry of a slot.
    pub fn parse(file_name: &str, text: &str) -> Option<Entry> {
        let (slot, tries) = parse_name(file_name)?;
        let field = |key: &str| {
            let values = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
            values.filter(|(found, _)| *found == key).map(|(_, value)| value.trim().to_owned()).next()
        };
        let usable = field("efi").is_some_and(|program| program.eq_ignore_ascii_case(&format!("/corten/{}.efi", slot.name())));
        let sequence = field("version").and_then(|version| version.parse().ok()).unwrap_or(0);
        Some(Entry { slot, tries, sequence, title: field("title").unwrap_or_default(), usable, file_name: file_name.to_owned() })
    }

    pub fn blessed(&self) -> bool {
        self.usable && self.tries.is_none()
    }

    /// `version` and `profile` of the title that [`title`] made.
    pub fn image(&self) -> Option<(&str, &str)> {
        self.title.strip_prefix("Corten ")?.strip_suffix(')')?.split_once(" (")
    }
}

/// `corten-a.conf`, `corten-b+3.conf`, `corten-b+2-1.conf`. FAT keeps the case of a long name and does not look at it.
fn parse_name(file_name: &str) -> Option<(Slot, Option<Tries>)> {
    let lower = file_name.to_ascii_lowercase();
    let stem = lower.strip_suffix(".conf")?.strip_prefix("corten-")?;
    let (name, counters) = stem.split_once('+').map_or((stem, None), |(name, counters)| (name, Some(counters)));
    let slot = Slot::ALL.into_iter().find(|slot| slot.name() == name)?;
    let Some(counters) = counters else { return Some((slot, None)) };
    let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    Some((slot, Some(Tries { left: number(left)?, done: number(done)? })))
}

pub fn file_name(slot: Slot, tries: Option<Tries>) -> String {
    let counters = match tries {
        None => String::new(),
        Some(Tries { left, done: 0 }) => format!("+{left}"),
        Some(Tries { left, done }) => format!("+{left}-{done}"),
    };
    format!("corten-{}{counters}.conf", slot.name())
}

/// Of the entries of one slot the one that counts: what a cut left beside it is older, or not finished.
pub fn current(entries: &[Entry], slot: Slot) -> Option<&Entry> {
    let left = |entry: &Entry| entry.tries.map_or(0, |tries| tries.left);
    // Of equal sequence numbers a blessed entry was written after the counted one, and the one with fewer tries after the one with more.
    let rank = |entry: &&Entry| (entry.sequence, entry.tries.is_none(), u32::MAX - left(entry));
    entries.iter().filter(|entry| entry.slot == slot && entry.usable).max_by_key(rank)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn names_and_texts() {
        let good = text(Slot::B, &title("1.2.3", "worker"), 7);
        let cases = [
            ("corten-b.conf", good.as_str()),
            ("corten-b+3.conf", &good),
            ("corten-b+2-1.conf", &good),
            ("corten-b+0-3.conf", &good),
            ("CORTEN-B+1-2.CONF", &good),
            ("corten-a.conf", &good),
            ("corten-a.conf", "title\tCorten 1 (bare)\r\nversion 12\r\nefi   /corten/A.EFI\r\n"),
            ("corten-b.conf", ""),
            ("corten-b.conf", "\0\0\0\0"),
            ("corten-b.conf", "efi /corten/b.efi\nversion one\n"),
            (".corten-b.conf.new", &good),
            ("corten-c.conf", &good),
            ("corten-b+.conf", &good),
            ("corten-b+-1.conf", &good),
            ("corten-b++1.conf", &good),
            ("corten-b+1-2-3.conf", &good),
            ("corten-b+99999999999.conf", &good),
            ("corten-b.conf.bak", &good),
            ("other.conf", &good),
        ];
        let mut printed = String::new();
        for (name, text) in cases {
            writeln!(printed, "{name:<28} {text:?}\n    {:?}", Entry::parse(name, text)).unwrap();
        }
        crate::golden::check("src/upgrade/esp/golden/entries.txt", &printed);
    }

    #[test]
    fn what_is_written_is_read() {
        for tries in [None, Some(Tries { left: 3, done: 0 }), Some(Tries { left: 0, done: 2 })] {
            for slot in Slot::ALL {
                let (name, text) = (file_name(slot, tries), text(slot, &title("2.0.0-rc.1", "controlplane"), 3));
                let entry = Entry::parse(&name, &text).unwrap();
                assert_eq!((entry.slot, entry.tries, entry.sequence, entry.usable), (slot, tries, 3, true));
                assert_eq!(entry.image(), Some(("2.0.0-rc.1", "controlplane")));
            }
        }
    }

    #[test]
    fn the_newest_of_a_slot_counts() {
        let entry = |name: &str, sequence| Entry::parse(name, &text(Slot::A, "t", sequence)).unwrap();
        let current = |entries: &[Entry]| current(entries, Slot::A).map(|entry| entry.file_name.clone());
        assert_eq!(current(&[]), None);
        assert_eq!(current(&[entry("corten-a.conf", 1), entry("corten-a+3.conf", 2)]).unwrap(), "corten-a+3.conf");
        assert_eq!(current(&[entry("corten-a+2-1.conf", 2), entry("corten-a.conf", 2)]).unwrap(), "corten-a.conf");
        assert_eq!(current(&[entry("corten-a+0-1.conf", 2), entry("corten-a+2-1.conf", 2)]).unwrap(), "corten-a+0-1.conf");
        assert_eq!(current(&[Entry::parse("corten-a.conf", "").unwrap()]), None, "a file without contents");
    }
}
