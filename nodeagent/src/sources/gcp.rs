//! Compute Engine's metadata server: the instance attribute `user-data`. Requests and answers both carry `Metadata-Flavor: Google`, so that
//! neither side takes anybody else for the other. <https://cloud.google.com/compute/docs/metadata/querying-metadata>

use http::header::HOST;
use http::{HeaderName, Request};
use http_body_util::Empty;
use hyper::body::Bytes;

use super::answer::{BadAnswer, content};
use super::fetch::Answer;

/// The name of 169.254.169.254 there. It needs no name server.
const NAME: &str = "metadata.google.internal";
pub const USER_DATA: &str = "/computeMetadata/v1/instance/attributes/user-data";
pub const PROJECT: &str = "/computeMetadata/v1/project/project-id";
pub const ZONE: &str = "/computeMetadata/v1/instance/zone";
pub const NAME_OF_INSTANCE: &str = "/computeMetadata/v1/instance/name";
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");

pub fn request(path: &str) -> http::Result<Request<Empty<Bytes>>> {
    Request::get(path).header(HOST, NAME).header(FLAVOR, "Google").body(Empty::new())
}

pub fn user_data(answer: Answer) -> Result<Option<Bytes>, BadAnswer> {
    if answer.headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
        return Err(BadAnswer::Header("Metadata-Flavor: Google"));
    }
    content(answer)
}
