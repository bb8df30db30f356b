//! Why an image was given up, as its record says it: the check, its last error, and the end of the log that tells most.

use machine::Root;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::state::{Observation, Verdict};
use crate::boots::record::last_bytes;
use crate::logs::{Chunks, Layout};
use crate::upgrade::records::Reason;

const LINES: usize = 20;
/// Of a longer line its end is kept.
const LINE_BYTES: usize = 1024;

/// `booted_at`: seconds since the epoch.
pub fn of(root: &Root, failing: &Observation, booted_at: i64) -> Reason {
    let message = match &failing.verdict {
        Verdict::Failing(message) | Verdict::Excused(message) => message.clone(),
        Verdict::Passed => String::new(),
    };
    let log_tail = failing.service.as_deref().map(|service| log_tail(root, service, booted_at)).unwrap_or_default();
    Reason { check: failing.check.clone(), message, log_tail }
}

/// The last lines of this boot; none where there are none. What the image before wrote to the same log tells nothing of this one.
fn log_tail(root: &Root, service: &str, booted_at: i64) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut chunks = Chunks::begin(Layout::service(root, service), Some(LINES), false)?;
        let mut text = Vec::new();
        while let Some(lines) = chunks.next()? {
            text.extend(lines);
        }
        Ok(text)
    };
    let text = read().inspect_err(|error| tracing::warn!("reading the log of {service}: {error}")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| written_at(line).is_none_or(|at| at >= booted_at)).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| last_bytes(line, LINE_BYTES)).collect()
}

/// When init wrote the line down, in seconds since the epoch, if it begins with that.
fn written_at(line: &str) -> Option<i64> {
    let (stamp, _) = line.split_once(' ')?;
    Some(OffsetDateTime::parse(stamp, &Rfc3339).ok()?.unix_timestamp())
}
