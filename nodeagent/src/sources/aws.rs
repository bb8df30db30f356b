//! EC2's instance metadata service, version 2: each request carries a token that a PUT request gave. Version 1, which needs none, is not
//! asked: whoever can make the machine send a GET could read it.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>

use http::header::HOST;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::body::Bytes;

use super::answer::{BadAnswer, content};
use super::fetch::Answer;
use super::metadata::ADDRESS;

/// The longest that the service gives.
const TOKEN_LIFETIME_SECONDS: u32 = 21_600;
pub const USER_DATA: &str = "/latest/user-data";
pub const IDENTITY: &str = "/latest/dynamic/instance-identity/document";
const LIFETIME: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");

pub fn token_request() -> http::Result<Request<Empty<Bytes>>> {
    Request::put("/latest/api/token").header(HOST, ADDRESS).header(LIFETIME, TOKEN_LIFETIME_SECONDS).body(Empty::new())
}

pub fn token(answer: &Answer) -> Result<HeaderValue, BadAnswer> {
    if answer.status != StatusCode::OK {
        return Err(BadAnswer::Status(answer.status));
    }
    let mut token = HeaderValue::from_bytes(answer.body.trim_ascii()).map_err(|_| BadAnswer::Form("token"))?;
    token.set_sensitive(true);
    if token.is_empty() { Err(BadAnswer::Form("token")) } else { Ok(token) }
}

pub fn request(path: &str, token: &HeaderValue) -> http::Result<Request<Empty<Bytes>>> {
    Request::get(path).header(HOST, ADDRESS).header(TOKEN, token).body(Empty::new())
}

/// Whether the token is not valid any more: it has run out, or the machine was moved.
pub fn needs_token(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED
}

pub fn user_data(answer: Answer) -> Result<Option<Bytes>, BadAnswer> {
    content(answer)
}
