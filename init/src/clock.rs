//! Time: how long the machine is up, and what time of day it is. The time of day never starts before what is known to lie in the past.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use time::OffsetDateTime;

/// Time since kernel entry, sleep not counted.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Seconds since the epoch.
pub fn time_of_day() -> u64 {
    u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0)
}

/// Sets the time of day.
pub fn set_time_of_day(seconds: u64) -> std::io::Result<()> {
    let seconds = i64::try_from(seconds).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    Ok(clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: 0 })?)
}

/// What is known of the time of day, in seconds since the epoch; `None` where there is no such source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    pub system: u64,
    /// The hardware clock.
    pub rtc: Option<u64>,
    /// When the image was built.
    pub built: Option<u64>,
    /// What the last boot saved on STATE.
    pub saved: Option<u64>,
}

/// No machine runs an image for so long. A hardware clock keeps two digits of the year: the kernel takes 1970 for 2070, in which every
/// certificate has expired.
const IMAGE_LIFE: u64 = 40 * 365 * 86_400;

/// The time to set: when the system's is earlier than what is known to lie in the past, or so late that it cannot be true.
pub fn correction(known: Known) -> Option<u64> {
    let credible = |time: &u64| known.built.is_none_or(|built| *time < built.saturating_add(IMAGE_LIFE));
    let floor = [known.rtc, known.built, known.saved].into_iter().flatten().filter(credible).max()?;
    (known.system < floor || !credible(&known.system)).then_some(floor)
}

/// Now, as RFC 3339 in UTC with microseconds: `2026-11-22T03:46:01.000250Z`.
pub fn stamp() -> String {
    format_stamp(OffsetDateTime::now_utc())
}

fn format_stamp(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, micro) = at.to_hms_micro();
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_is_set_only_forward_and_to_the_latest_known_time() {
        let known = Known { system: 100, rtc: Some(90), built: Some(200), saved: Some(150) };
        assert_eq!(correction(known), Some(200));
        assert_eq!(correction(Known { saved: Some(300), ..known }), Some(300));
        assert_eq!(correction(Known { system: 400, ..known }), None, "a later clock stays");
        assert_eq!(correction(Known { system: 0, ..Known::default() }), None, "nothing is known");
    }

    #[test]
    fn a_clock_that_wrapped_around_is_not_believed() {
        let (built, year_2070) = (1_795_140_670, 3_155_760_000);
        let known = Known { system: year_2070, rtc: Some(year_2070), built: Some(built), saved: None };
        assert_eq!(correction(known), Some(built));
        assert_eq!(correction(Known { saved: Some(built + 9), ..known }), Some(built + 9));
        assert_eq!(correction(Known { saved: Some(year_2070), ..known }), Some(built), "saved by a boot that believed it");
        assert_eq!(correction(Known { system: built + 86_400, rtc: None, ..known }), None, "a day ahead stays");
        assert_eq!(correction(Known { built: None, ..known }), None, "nothing says that it cannot be true");
    }

    #[test]
    fn stamp_is_rfc3339() {
        let at = OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_000_250_000).expect("in range");
        assert_eq!(format_stamp(at), "2023-11-14T22:13:20.000250Z");
    }
}
