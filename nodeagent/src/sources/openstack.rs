//! Nova's metadata service, in OpenStack's own format. <https://docs.openstack.org/nova/latest/user/metadata.html>

use http::Request;
use http::header::HOST;
use http_body_util::Empty;
use hyper::body::Bytes;

use super::answer::{BadAnswer, content};
use super::fetch::Answer;
use super::metadata::ADDRESS;

pub fn request() -> http::Result<Request<Empty<Bytes>>> {
    Request::get("/openstack/latest/user_data").header(HOST, ADDRESS).body(Empty::new())
}

pub fn user_data(answer: Answer) -> Result<Option<Bytes>, BadAnswer> {
    content(answer)
}
