//! What went wrong, in the one shape that users see: `<where>: <what>; <what to do>`, like the errors of a config file.

use std::error::Error as _;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use machine::config::Report;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A command that did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: Kind,
    /// A file, a node, a flag. Empty where `problems` say it.
    pub place: String,
    /// At least one.
    pub problems: Vec<String>,
    /// What to do; may be empty.
    pub remedy: String,
}

/// Decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Usage,
    /// Some nodes did it, some did not.
    Partial,
    Deadline,
}

impl Kind {
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Partial => 3,
            Kind::Deadline => 124,
        })
    }
}

impl Failure {
    pub fn new(place: impl fmt::Display, problem: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Failed, place: place.to_string(), problems: vec![problem.to_string()], remedy: String::new() }
    }

    pub fn usage(place: impl fmt::Display, problem: impl fmt::Display) -> Failure {
        Failure { kind: Kind::Usage, ..Failure::new(place, problem) }
    }

    /// An error of one of our libraries, with its whole chain of causes.
    pub fn of(place: impl fmt::Display, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::new(place, chain(error))
    }

    pub fn deadline(place: impl fmt::Display, awaited: impl fmt::Display, waited: Duration) -> Failure {
        let problem = format!("{awaited} within {}", machine::config::Duration(waited));
        Failure { kind: Kind::Deadline, ..Failure::new(place, problem) }.remedy("give it more time with --timeout")
    }

    /// Several as one; one alone stays what it is.
    pub fn all(mut failures: Vec<Failure>) -> Failure {
        match (failures.pop(), failures.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                let problems = failures.iter().chain(&last).map(Failure::to_string).collect();
                Failure { kind: Kind::Failed, place: String::new(), problems, remedy: String::new() }
            }
        }
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Failure {
        self.remedy = remedy.into();
        self
    }

    /// A gRPC status with the details that the server added.
    pub fn status(place: impl fmt::Display, status: &Status) -> Failure {
        let details = status.get_error_details();
        let violations = details.bad_request().map(|request| request.field_violations.clone()).unwrap_or_default();
        let problems: Vec<String> = if violations.is_empty() {
            vec![message(status)]
        } else {
            violations.into_iter().map(|violation| named(&violation.field, &violation.description)).collect()
        };
        let links = details.help().map(|help| help.links.clone()).unwrap_or_default();
        let remedy = links.into_iter().map(|link| link.description).collect::<Vec<_>>().join("; ");
        let kind = if status.code() == Code::DeadlineExceeded { Kind::Deadline } else { Kind::Failed };
        let remedy = if remedy.is_empty() { own_remedy(status).to_owned() } else { remedy };
        Failure { kind, place: place.to_string(), problems, remedy }
    }
}

fn named(field: &str, description: &str) -> String {
    if field.is_empty() { description.to_owned() } else { format!("{field}: {description}") }
}

/// The server's words; of a broken connection the cause, which tonic's own words leave out.
fn message(status: &Status) -> String {
    match status.source() {
        Some(source) => chain(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}

/// For servers that give none.
fn own_remedy(status: &Status) -> &'static str {
    match status.code() {
        Code::Unimplemented => "the machine's release does not know this call: use the machinectl of its release",
        _ => "",
    }
}

/// An error and its causes in one line, none said twice.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&named(&self.place, problem))?;
        }
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// A report's text has its places in it already.
impl From<Report> for Failure {
    fn from(report: Report) -> Failure {
        Failure::new("", report)
    }
}

impl From<testbed::Error> for Failure {
    fn from(error: testbed::Error) -> Failure {
        let kind = if matches!(error, testbed::Error::Deadline { .. }) { Kind::Deadline } else { Kind::Failed };
        Failure { kind, ..Failure::of("", &error) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_violation_is_a_line() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("cluster.name", "\"A\"; expected a DNS label");
        details.add_bad_request_violation("machine.role", "missing");
        let status = Status::with_error_details(Code::InvalidArgument, "summary", details);
        let text = Failure::status("192.0.2.1:50000", &status).to_string();
        assert_eq!(text, "192.0.2.1:50000: cluster.name: \"A\"; expected a DNS label\n192.0.2.1:50000: machine.role: missing");
    }

    #[test]
    fn the_remedy_of_the_server_comes_last() {
        let mut details = ErrorDetails::with_error_info("ROLE_TOO_LOW", "corten.dev", HashMap::new());
        details.add_help_link("ask for os:admin", "");
        let status = Status::with_error_details(Code::PermissionDenied, "os:reader may not do this", details);
        let failure = Failure::status("cp-1:50000", &status);
        assert_eq!(failure.to_string(), "cp-1:50000: os:reader may not do this; ask for os:admin");
        assert_eq!(failure.kind, Kind::Failed);
        assert_eq!(Failure::status("n", &Status::deadline_exceeded("late")).kind, Kind::Deadline);
    }

    #[test]
    fn a_chain_says_nothing_twice() {
        let inner = std::io::Error::other("connection reset");
        let outer = std::io::Error::other(format!("read: {inner}"));
        assert_eq!(chain(&outer), "read: connection reset");
    }
}
