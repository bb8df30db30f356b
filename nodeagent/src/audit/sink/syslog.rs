//! Records as syslog messages: RFC 5424, with the counted frames of RFC 6587 where there is a stream.

use machine::audit::{Event, Record};

/// Facility "log audit" (13).
const FACILITY: u8 = 13;
const NOTICE: u8 = 5;
const WARNING: u8 = 4;

/// The message of a line of the log; `None` for a line that holds no record.
pub fn message(line: &str, hostname: &str) -> Option<String> {
    let record: Record = serde_json::from_str(line.split_once(' ')?.1).ok()?;
    let (severity, kind) = match &record.event {
        Event::Begun => (NOTICE, "begun"),
        Event::Ended { .. } => (NOTICE, "ended"),
        Event::Denied { .. } => (WARNING, "denied"),
    };
    let host = if hostname.is_empty() { "-" } else { hostname };
    Some(format!("<{}>1 {} {host} corten-audit - {kind} - {line}", FACILITY * 8 + severity, record.at))
}

pub fn framed(message: &str) -> String {
    format!("{} {message}", message.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::audit::{Call, Head};

    #[test]
    fn a_message_is_what_the_rfcs_say() {
        let call = Call { subject: "os:admin/alice".into(), role: "admin".into(), address: "192.0.2.1:1".into(), method: "/a/B".into() };
        let event = Event::Denied { reason: "role reader".into() };
        let (line, _) = Head::start().write("2026-01-02T03:04:05.678Z".into(), call, event).unwrap();
        let sent = message(&line, "cp-1").unwrap();
        assert_eq!(sent, format!("<108>1 2026-01-02T03:04:05.678Z cp-1 corten-audit - denied - {line}"));
        assert_eq!(framed(&sent), format!("{} {sent}", sent.len()));
        assert!(message(&line, "").unwrap().contains("Z - corten-audit"));
        assert_eq!(message("x", "cp-1"), None);
    }
}
