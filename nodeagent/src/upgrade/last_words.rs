//! What an image that never came up said last: what its kernel left in the firmware or in memory, or what a boot in between put on record.

use machine::Root;
use machine::disk::Slot;
use machine::record::CANNOT_BOOT;

use crate::boots::pstore::Crash;
use crate::boots::record::{Ending, Records};

/// Lines of the kernel's log that the record of an upgrade takes in.
const TAIL_LINES: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords {
    /// How the boot ended, as the end of a sentence.
    pub ending: String,
    pub log_tail: Vec<String>,
}

/// Of the boots since `running`, which runs again, ran last.
pub fn since(root: &Root, running: Slot) -> LastWords {
    if let Some(crash) = Crash::left(root) {
        return words("the last", &crash.words(), &crash.log);
    }
    // A boot that got further has recorded the crash before it and made room for the next one.
    let records = Records::new(root.boot_records()).list().inspect_err(|error| tracing::warn!("{error:#}")).unwrap_or_default();
    let since = records.into_iter().rev().take_while(|record| record.slot != Some(running));
    let recorded = since.into_iter().find_map(|record| match record.ending {
        Some(Ending::Crashed { panic }) => Some(words("one of them", &panic, &record.crash_log)),
        _ => None,
    });
    recorded.unwrap_or_else(|| LastWords { ending: "the last ended without a word".to_owned(), log_tail: Vec::new() })
}

fn words(which: &str, said: &str, log: &str) -> LastWords {
    let ending = match said.strip_prefix("corten: ").and_then(|said| said.strip_prefix(CANNOT_BOOT)) {
        Some(reason) => format!("{which} ended before its agent: {reason}"),
        None => format!("{which} ended in a crash of the kernel: {said}"),
    };
    let lines: Vec<&str> = log.lines().collect();
    let log_tail = lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    LastWords { ending, log_tail }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::boots::record::Record;

    fn recorded(records: &Records, number: u64, slot: Option<Slot>, panic: Option<&str>) {
        let ending = panic.map(|panic| Ending::Crashed { panic: panic.to_owned() });
        let crash_log = panic.map(|panic| format!("before\n{panic}\n")).unwrap_or_default();
        records.put(&Record { number, slot, ending, crash_log, ..Record::default() }).unwrap();
    }

    #[test]
    fn cases() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.boot_records()).unwrap();
        let records = Records::new(root.boot_records());
        let ending = || since(&root, Slot::A).ending;
        assert_eq!(ending(), "the last ended without a word");
        recorded(&records, 1, Some(Slot::B), Some("an older image's"));
        recorded(&records, 2, Some(Slot::A), None);
        assert_eq!(ending(), "the last ended without a word", "what came before the running image is not the new one's");
        recorded(&records, 3, None, Some("Kernel panic - not syncing: Attempted to kill init!"));
        recorded(&records, 4, Some(Slot::B), None);
        let told = since(&root, Slot::A);
        assert_eq!(told.ending, "one of them ended in a crash of the kernel: Kernel panic - not syncing: Attempted to kill init!");
        assert_eq!(told.log_tail, ["before", "Kernel panic - not syncing: Attempted to kill init!"]);

        let pstore = root.path("/sys/fs/pstore");
        fs::create_dir_all(&pstore).unwrap();
        let log: String = (0..30).map(|line| format!("<6>[    4.{line}] line {line}\n")).collect();
        let text = format!(
            "Shutdown#1 Part1\n{log}<3>[    5.1] corten: CANNOT BOOT: mount the root (erofs): no\n<6>[    6.1] reboot: Restarting\n"
        );
        fs::write(pstore.join("dmesg-efi_pstore-1"), text).unwrap();
        let told = since(&root, Slot::A);
        assert_eq!(told.ending, "the last ended before its agent: mount the root (erofs): no");
        assert_eq!(told.log_tail.len(), TAIL_LINES);
    }
}
