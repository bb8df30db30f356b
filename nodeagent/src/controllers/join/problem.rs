//! Why a machine does not get what it asks for.

use std::error::Error as _;

use tonic::Status;
use tonic_types::StatusExt;

use crate::agents::Trouble;
use crate::resources::authorities::date;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In one word, as programs know it.
    reason: String,
    message: String,
    /// Every control plane would say the same.
    pub is_final: bool,
    /// The certificate that the machine showed is not taken.
    pub certificate_refused: bool,
}

impl Problem {
    pub fn new(reason: &str, message: impl Into<String>) -> Problem {
        Problem { reason: reason.to_owned(), message: message.into(), is_final: false, certificate_refused: false }
    }

    pub fn local(error: anyhow::Error) -> Problem {
        Problem::new("LOCAL", format!("{error:#}"))
    }

    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What a control plane answered.
    pub fn answered(server: &str, status: &Status) -> Problem {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else { return Problem::unanswered(server, status) };
        let remedy = details.help().and_then(|help| help.links.first()).map(|link| format!("; {}", link.description)).unwrap_or_default();
        let is_final =
            !matches!(info.reason.as_str(), "NOT_READY" | "BUSY" | "UNAVAILABLE" | "INTERNAL" | "UNKNOWN_METHOD" | "WRONG_STAGE");
        let certificate_refused = matches!(info.reason.as_str(), "CERTIFICATE_EXPIRED" | "OTHER_MACHINE");
        Problem { reason: info.reason.clone(), message: format!("{server}: {}{remedy}", status.message()), is_final, certificate_refused }
    }

    /// The connection ended first. Under TLS 1.3 a client learns only then that its certificate is refused.
    fn unanswered(server: &str, status: &Status) -> Problem {
        let mut texts = vec![status.message().to_owned()];
        let mut certificate_refused = false;
        let mut source = status.source();
        while let Some(cause) = source {
            let io = cause
                .downcast_ref::<std::io::Error>()
                .and_then(|error| error.get_ref())
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let tls = cause.downcast_ref::<rustls::Error>().or(io);
            certificate_refused |= matches!(tls, Some(rustls::Error::AlertReceived(_)));
            texts.push(cause.to_string());
            source = cause.source();
        }
        texts.dedup();
        let reason = if certificate_refused { "CERTIFICATE_REFUSED" } else { "UNREACHABLE" };
        Problem { certificate_refused, ..Problem::new(reason, format!("{server}: {}", texts.join(": "))) }
    }

    /// That which says most, of what was met at all control planes.
    pub fn of_all(problems: Vec<Problem>) -> Problem {
        let unreachable = |problem: &Problem| problem.reason == "UNREACHABLE";
        if problems.iter().all(unreachable) && problems.len() > 1 {
            let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            return Problem::new("UNREACHABLE", messages.join("; "));
        }
        let telling = problems.iter().find(|problem| !unreachable(problem)).or(problems.first()).cloned();
        telling.unwrap_or_else(|| Problem::new("NOBODY", "cluster.controlPlanes names no control plane but this machine"))
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Problem {
        let message = trouble.to_string();
        match trouble {
            Trouble::Unreachable { .. } | Trouble::Handshake { .. } => Problem::new("UNREACHABLE", message),
            Trouble::ForeignAuthority { .. } => Problem::new(
                "FOREIGN_AUTHORITY",
                format!("{message}: it is another cluster's, or has no config yet; see cluster.controlPlanes"),
            ),
            Trouble::Clock { now, .. } => {
                Problem::new("CLOCK", format!("{message}, and this machine's clock says {}; see machine.network.timeServers", date(now)))
            }
            Trouble::OtherName { .. } | Trouble::NoControlPlane { .. } => {
                Problem::new("NO_CONTROL_PLANE", format!("{message}; see cluster.controlPlanes"))
            }
            Trouble::Own { .. } => Problem::new("LOCAL", message),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
