//! How the boots before this one ended: from what they left behind to what is written into their records.

use machine::record::LastShutdown;

use super::record::{Ending, Record};

/// What earlier boots left.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// What init wrote at the last ordered end.
    pub shutdown: Option<LastShutdown>,
    /// What the kernel said when it crashed, and its log.
    pub crash: Option<(String, String)>,
    /// The watchdog says that it caused the last reset.
    pub watchdog: bool,
}

/// The last record with its ending, and one more for a crash in a boot whose agent never came up. `number` is the next record's.
pub fn complete(last: Option<Record>, left: Left, number: u64) -> Vec<Record> {
    let Some(mut last) = last.filter(|last| last.ending.is_none()) else {
        return unrecorded(left, number).into_iter().collect();
    };
    if let Some(shutdown) = left.shutdown.clone().filter(|shutdown| shutdown.boot_id == last.boot_id) {
        last.ended_at = shutdown.at;
        last.ending = Some(Ending::Ordered { action: shutdown.action, reason: shutdown.reason });
        // Nobody crashes after an ordered end: what is there came in between.
        return std::iter::once(last).chain(unrecorded(left, number)).collect();
    }
    last.ending = Some(match left.crash {
        Some((panic, log)) => {
            last.crash_log = log;
            Ending::Crashed { panic }
        }
        None if left.watchdog => Ending::Watchdog,
        None => Ending::Unknown,
    });
    vec![last]
}

fn unrecorded(left: Left, number: u64) -> Option<Record> {
    let (panic, crash_log) = left.crash?;
    Some(Record { number, ending: Some(Ending::Crashed { panic }), crash_log, ..Record::default() })
}

#[cfg(test)]
mod tests {
    use machine::protocol::PowerAction;

    use super::*;

    fn left(boot_id: Option<&str>, crash: bool, watchdog: bool) -> Left {
        let shutdown = boot_id.map(|boot_id| LastShutdown {
            version: LastShutdown::VERSION,
            boot_id: boot_id.to_owned(),
            action: PowerAction::Reboot,
            reason: "upgrade".to_owned(),
            at: 100,
        });
        Left { shutdown, crash: crash.then(|| ("panic".to_owned(), "log".to_owned())), watchdog }
    }

    fn endings(last: Option<Record>, left: Left) -> Vec<(u64, &'static str, u64)> {
        let told = complete(last, left, 8);
        told.into_iter().map(|record| (record.number, record.ending.as_ref().unwrap().word(), record.ended_at)).collect()
    }

    #[test]
    fn cases() {
        let last = || Some(Record { number: 7, boot_id: "seven".to_owned(), ..Record::default() });
        assert_eq!(endings(last(), left(Some("seven"), false, false)), [(7, "ordered", 100)]);
        assert_eq!(endings(last(), left(Some("seven"), false, true)), [(7, "ordered", 100)]);
        assert_eq!(endings(last(), left(Some("seven"), true, false)), [(7, "ordered", 100), (8, "crashed", 0)]);
        assert_eq!(endings(last(), left(Some("six"), true, true)), [(7, "crashed", 0)]);
        assert_eq!(endings(last(), left(None, false, true)), [(7, "watchdog", 0)]);
        assert_eq!(endings(last(), left(Some("six"), false, false)), [(7, "unknown", 0)]);
        assert_eq!(endings(None, left(None, true, false)), [(8, "crashed", 0)]);
        assert_eq!(endings(None, left(Some("seven"), false, true)), []);
        let over = Record { ending: Some(Ending::Unknown), ..last().unwrap() };
        assert_eq!(endings(Some(over), left(Some("seven"), true, false)), [(8, "crashed", 0)]);
    }
}
