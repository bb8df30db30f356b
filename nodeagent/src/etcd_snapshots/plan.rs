//! When a snapshot is due, and what they are called.

use std::time::Duration;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");
const END: &str = ".snapshot";

/// `<cluster>-<time>.snapshot`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    cluster: String,
    /// Seconds since the epoch.
    at: u64,
}

/// Which of how many takes one: they do so one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub position: u32,
    pub of: u32,
}

impl Name {
    pub fn new(cluster: &str, at: u64) -> Name {
        Name { cluster: cluster.to_owned(), at }
    }

    /// Those of the cluster, the newest last. Whatever else is there is left alone.
    pub fn all(cluster: &str, names: &[String]) -> Vec<Name> {
        let mut own: Vec<Name> = names.iter().filter_map(|name| Name::parse(cluster, name)).collect();
        own.sort_by_key(|name| name.at);
        own
    }

    fn parse(cluster: &str, text: &str) -> Option<Name> {
        let stamp = text.strip_prefix(cluster)?.strip_prefix('-')?.strip_suffix(END)?;
        let at = PrimitiveDateTime::parse(stamp, STAMP).ok()?.assume_utc().unix_timestamp();
        Some(Name::new(cluster, u64::try_from(at).ok()?))
    }

    pub fn text(&self) -> String {
        let at = i64::try_from(self.at).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
        let stamp = at.and_then(|at| at.format(STAMP).ok()).unwrap_or_default();
        format!("{}-{stamp}{END}", self.cluster)
    }
}

/// Seconds until the next one; none if it is due. Time is cut into intervals, and each of the members has its place in them.
pub fn due_in(now: u64, newest: Option<&Name>, interval: Duration, turn: Turn) -> Option<u64> {
    let interval = interval.as_secs().max(1);
    let offset = interval * u64::from(turn.position) / u64::from(turn.of.max(1));
    let since = now.saturating_sub(offset) / interval * interval + offset;
    let newest = newest?;
    (newest.at >= since).then(|| since + interval - now.min(since + interval))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const FIRST: Turn = Turn { position: 0, of: 3 };
    const SECOND: Turn = Turn { position: 1, of: 3 };

    #[test]
    fn names_of_the_cluster_are_known_and_no_others() {
        let name = Name::new("demo", 1_795_600_000);
        assert_eq!(name.text(), "demo-20261125T094640Z.snapshot");
        let names = [&name.text(), "demo-20261124T094640Z.snapshot", "other-20261125T094640Z.snapshot", "demo-x.snapshot", "upgrade-1.db"];
        let all = Name::all("demo", &names.map(ToString::to_string));
        assert_eq!(all.iter().map(Name::text).collect::<Vec<_>>(), ["demo-20261124T094640Z.snapshot", &name.text()]);
    }

    #[test]
    fn members_take_turns() {
        let at = |at| Name::new("demo", at);
        assert_eq!(due_in(7200, None, HOUR, FIRST), None, "there is none");
        assert_eq!(due_in(7200, Some(&at(7199)), HOUR, FIRST), None, "an interval has begun");
        assert_eq!(due_in(7210, Some(&at(7200)), HOUR, FIRST), Some(3590));
        assert_eq!(due_in(8399, Some(&at(4800)), HOUR, SECOND), Some(1));
        assert_eq!(due_in(8400, Some(&at(4800)), HOUR, SECOND), None, "its turn is a third of an interval later");
        assert_eq!(due_in(7200, Some(&at(9_999_999)), HOUR, FIRST), Some(3600), "a clock that was set back");
    }
}
