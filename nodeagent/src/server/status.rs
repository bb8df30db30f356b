//! The one place where refusals become gRPC codes with their details (google.rpc): what is wrong in which field, why, and what to do.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::permission::Denial;
use crate::refusal::Refusal;

/// Whose reasons they are, in google.rpc.ErrorInfo.
const DOMAIN: &str = "corten.dev";

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let text = refusal.to_string();
        match refusal {
            Refusal::Invalid(violations) => {
                let mut details = ErrorDetails::new();
                for violation in violations {
                    details.add_bad_request_violation(violation.field, violation.description);
                }
                Status::with_error_details(Code::InvalidArgument, text, details)
            }
            Refusal::NotFound { remedy, .. } => status(Code::NotFound, text, "NOT_FOUND", &remedy),
            Refusal::State { reason, remedy, .. } => status(Code::FailedPrecondition, text, reason, &remedy),
            Refusal::NotPermitted { remedy, .. } => status(Code::PermissionDenied, text, "PERMISSION_DENIED", &remedy),
            Refusal::Unavailable { part, source } => {
                status(Code::Unavailable, format!("{text}: {source:#}"), "UNAVAILABLE", &format!("try again; see the log of {part}"))
            }
            Refusal::Internal(source) => {
                tracing::error!("{source:#}");
                status(Code::Internal, format!("{source:#}"), "INTERNAL", "see the log of nodeagent")
            }
        }
    }
}

/// What a caller is told whom the permission table denies.
pub fn denied(denial: Denial) -> Status {
    let (code, reason) = match denial {
        Denial::UnknownMethod => (Code::Unimplemented, "UNKNOWN_METHOD"),
        Denial::NoCertificate => (Code::Unauthenticated, "CERTIFICATE_NEEDED"),
        Denial::Expired => (Code::Unauthenticated, "CERTIFICATE_EXPIRED"),
        Denial::IdentityHeld => (Code::PermissionDenied, "IDENTITY_HELD"),
        Denial::Role { .. } => (Code::PermissionDenied, "ROLE_TOO_LOW"),
        Denial::MachinesOnly => (Code::PermissionDenied, "MACHINES_ONLY"),
        Denial::Stage(_) => (Code::FailedPrecondition, "WRONG_STAGE"),
    };
    status(code, denial.to_string(), reason, &denial.remedy())
}

fn status(code: Code, text: String, reason: &str, remedy: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    if !remedy.is_empty() {
        details.add_help_link(remedy, "");
    }
    Status::with_error_details(code, text, details)
}
