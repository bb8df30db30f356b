//! Azure's instance metadata service: the machine's user data, in base64.
//! <https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#get-user-data>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HOST;
use http::{HeaderName, Request};
use http_body_util::Empty;
use hyper::body::Bytes;

use super::answer::{BadAnswer, content};
use super::fetch::Answer;
use super::metadata::ADDRESS;

pub const USER_DATA: &str = "/metadata/instance/compute/userData?api-version=2021-01-01&format=text";
pub const COMPUTE: &str = "/metadata/instance/compute?api-version=2021-01-01&format=json";
const METADATA: HeaderName = HeaderName::from_static("metadata");

pub fn request(path: &str) -> http::Result<Request<Empty<Bytes>>> {
    Request::get(path).header(HOST, ADDRESS).header(METADATA, "true").body(Empty::new())
}

pub fn user_data(answer: Answer) -> Result<Option<Bytes>, BadAnswer> {
    let Some(encoded) = content(answer)? else { return Ok(None) };
    let encoded: Vec<u8> = encoded.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(encoded).map_err(|_| BadAnswer::Form("base64"))?;
    Ok(Some(decoded.into()))
}
