//! Why an image was given up, as its record says it: the check, its last error, and the end of the log that tells most.

use machine::Root;

use super::state::{Observation, Verdict};
use crate::boots::record::last_bytes;
use crate::logs::{Chunks, Layout};
use crate::upgrade::records::Reason;

const LINES: usize = 20;
/// Of a longer line its end is kept.
const LINE_BYTES: usize = 1024;

pub fn of(root: &Root, failing: &Observation) -> Reason {
    let message = match &failing.verdict {
        Verdict::Failing(message) | Verdict::Excused(message) => message.clone(),
        Verdict::Passed => String::new(),
    };
    let log_tail = failing.service.as_deref().map(|service| log_tail(root, service)).unwrap_or_default();
    Reason { check: failing.check.clone(), message, log_tail }
}

/// The last lines; none where there is no log.
fn log_tail(root: &Root, service: &str) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut chunks = Chunks::begin(Layout::service(root, service), Some(LINES), false)?;
        let mut text = Vec::new();
        while let Some(lines) = chunks.next()? {
            text.extend(lines);
        }
        Ok(text)
    };
    let text = read().inspect_err(|error| tracing::warn!("reading the log of {service}: {error}")).unwrap_or_default();
    let lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(|line| last_bytes(line, LINE_BYTES)).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}
