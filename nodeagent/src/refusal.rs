//! Why something that a user asked for is not done: what is wrong and what to do about it. The server turns it into gRPC's words.

/// An answer other than success.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request itself is wrong, field by field.
    #[error("{}", summary(.0))]
    Invalid(Vec<Violation>),
    #[error("{what} is not there")]
    NotFound { what: String, remedy: String },
    /// The request is well-formed, but the machine is not in the state for it.
    #[error("{problem}")]
    State {
        /// One word in capitals, for programs: STATE_CLOSED.
        reason: &'static str,
        problem: String,
        remedy: String,
    },
    #[error("{problem}")]
    NotPermitted { problem: String, remedy: String },
    /// Another part of the machine does not answer.
    #[error("{part} does not answer")]
    Unavailable {
        part: &'static str,
        #[source]
        source: anyhow::Error,
    },
    #[error("internal error")]
    Internal(#[from] anyhow::Error),
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field: `document`, `cluster.network.podCIDRs[0]`.
    pub field: String,
    /// What was found, what was expected, what to do.
    pub description: String,
}

impl Refusal {
    /// One field of the request is wrong.
    pub fn field(field: &str, description: impl Into<String>) -> Refusal {
        Refusal::Invalid(vec![Violation { field: field.to_owned(), description: description.into() }])
    }

    pub fn not_found(what: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal::NotFound { what: what.into(), remedy: remedy.into() }
    }

    pub fn state(reason: &'static str, problem: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal::State { reason, problem: problem.into(), remedy: remedy.into() }
    }

    pub fn etcd(source: anyhow::Error) -> Refusal {
        Refusal::Unavailable { part: "etcd", source }
    }

    pub fn init(source: anyhow::Error) -> Refusal {
        Refusal::Unavailable { part: "init", source }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Refusal {
        Refusal::Internal(error.into())
    }
}

fn summary(violations: &[Violation]) -> String {
    let lines: Vec<String> = violations.iter().map(|violation| format!("{}: {}", violation.field, violation.description)).collect();
    lines.join("\n")
}
