//! Listens to a call's request and answer as they pass, so that the audit log can tell what was asked and how it ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use sha2::{Digest, Sha256};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::audit::{Begun, End};

/// What was heard of the request so far.
#[derive(Debug, Default)]
struct Heard {
    digest: Sha256,
    bytes: u64,
}

/// Shared by the request's body and the answer's.
#[derive(Debug, Clone, Default)]
pub struct Ear(Arc<Mutex<Heard>>);

impl Ear {
    /// The request, which is heard from now on.
    pub fn on(&self, request: Request<Body>) -> Request<Body> {
        let ear = self.clone();
        request.map(|body| {
            Body::new(body.map_frame(move |frame| {
                if let Some(bytes) = frame.data_ref() {
                    ear.hear(bytes);
                }
                frame
            }))
        })
    }

    fn hear(&self, bytes: &Bytes) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.digest.update(bytes);
        heard.bytes += bytes.len() as u64;
    }

    fn end(&self, code: Code) -> End {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        End { request_sha256: hex::encode(heard.digest.clone().finalize()), request_bytes: heard.bytes, code: name(code).to_owned() }
    }
}

/// The answer; its end is noted, or that it was not waited for.
pub fn until_end(response: Response<Body>, begun: Begun, ear: Ear) -> Response<Body> {
    // A refusal stands in the head, and has no body that would be read.
    let code = status(response.headers());
    response.map(|inner| {
        let over = inner.is_end_stream();
        let mut answer = Answer { inner, call: Some((begun, ear)), code };
        if over {
            answer.note(code.unwrap_or(Code::Ok));
        }
        Body::new(answer)
    })
}

fn status(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

struct Answer {
    inner: Body,
    /// None once its end is noted.
    call: Option<(Begun, Ear)>,
    code: Option<Code>,
}

impl Answer {
    fn note(&mut self, code: Code) {
        if let Some((begun, ear)) = self.call.take() {
            begun.end(ear.end(code));
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().and_then(status) {
                    self.note(code);
                }
            }
            Some(Err(error)) => {
                let code = error.code();
                self.note(code);
            }
            None => {
                let code = self.code.unwrap_or(Code::Ok);
                self.note(code);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        self.note(code);
    }
}

/// As gRPC's documents spell it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
