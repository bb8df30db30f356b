//! Where the audit log goes: URLs that can be asked, each once.

use super::{Check, pem};
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{Audit, SinkUrl};

/// Each is told of every record.
const SINKS_MOST: usize = 8;

pub fn check(audit: &Audit, check: &mut Check<'_>) {
    let path = Path::of("machine.audit.sinks");
    if audit.sinks.len() > SINKS_MOST {
        check.add(&path, format!("{} sinks", audit.sinks.len()), format!("at most {SINKS_MOST}"), "");
    }
    for (index, sink) in audit.sinks.iter().enumerate() {
        let path = path.item(index);
        match sink.url.parse::<SinkUrl>() {
            Err(problem) => check.add(&path.key("url"), quoted(&sink.url), problem.0, ""),
            Ok(url) if sink.ca.is_some() && !url.is_tls() => {
                check.add(&path.key("ca"), "authorities", "none: nothing is encrypted on this way", "use tls:// or https://");
            }
            Ok(_) => {}
        }
        if let Some(ca) = &sink.ca {
            pem::certificates(&path.key("ca"), ca, check);
        }
    }
    check.refuse_repeats(&path, audit.sinks.iter().map(|sink| (sink.url.clone(), sink.url.clone())));
}
