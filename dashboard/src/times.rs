//! Points in time, as tables show them.

use prost_types::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339 in UTC, to the second; empty for none.
pub fn shown(at: Option<&Timestamp>) -> String {
    let date = at.and_then(|at| OffsetDateTime::from_unix_timestamp(at.seconds).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_is_shown_in_utc() {
        assert_eq!(shown(Some(&Timestamp { seconds: 1_790_000_000, nanos: 5 })), "2026-09-21T14:13:20Z");
        assert_eq!(shown(None), "");
    }
}
