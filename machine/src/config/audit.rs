//! Where the audit log goes besides the machine itself: `machine.audit` of the machine config.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::address::{BadAddress, HostPort};
use super::url::Url;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Audit {
    /// Who gets every record of the audit log, in order, as soon as it can be reached. Default: nobody; the log is kept on the machine.
    pub sinks: Vec<AuditSink>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditSink {
    /// `udp://`, `tcp://` or `tls://<host>:<port>` for syslog (RFC 5424); `http://` or `https://` for POSTs of one record a line. No default.
    pub url: String,
    /// Authorities to trust for tls and https, PEM. Default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Where a sink is, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkUrl {
    Syslog { transport: Transport, server: HostPort },
    Http(Url),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl SinkUrl {
    pub fn is_tls(&self) -> bool {
        match self {
            SinkUrl::Syslog { transport, .. } => *transport == Transport::Tls,
            SinkUrl::Http(url) => url.tls,
        }
    }
}

impl FromStr for SinkUrl {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<SinkUrl, BadAddress> {
        let wrong = |_| BadAddress("a URL, such as tls://log.example.com:6514 or https://log.example.com/corten");
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let transport = match scheme {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            "tls" => Transport::Tls,
            _ => return text.parse().map(SinkUrl::Http).map_err(wrong),
        };
        Ok(SinkUrl::Syslog { transport, server: rest.parse().map_err(wrong)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let syslog = |transport, server: &str| SinkUrl::Syslog { transport, server: server.parse().unwrap() };
        assert_eq!("udp://192.0.2.1:514".parse(), Ok(syslog(Transport::Udp, "192.0.2.1:514")));
        assert_eq!("tcp://[2001:db8::1]:601".parse(), Ok(syslog(Transport::Tcp, "[2001:db8::1]:601")));
        assert!("tls://log.example.com:6514".parse::<SinkUrl>().unwrap().is_tls());
        assert!(matches!("https://log.example.com/x".parse(), Ok(SinkUrl::Http(url)) if url.tls));
        for text in ["", "udp://", "udp://a", "log.example.com:514", "syslog://a:514", "tcp://a:514/x", "ftp://a/"] {
            assert!(text.parse::<SinkUrl>().is_err(), "{text}");
        }
    }
}
