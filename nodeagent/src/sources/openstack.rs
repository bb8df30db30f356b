//! Nova's metadata service, in OpenStack's own format. <https://docs.openstack.org/nova/latest/user/metadata.html>

use http::Request;
use http::header::HOST;
use http_body_util::Empty;
use hyper::body::Bytes;

use super::answer::{BadAnswer, content};
use super::fetch::Answer;
use super::metadata::ADDRESS;

pub const USER_DATA: &str = "/openstack/latest/user_data";
pub const META_DATA: &str = "/openstack/latest/meta_data.json";

pub fn request(path: &str) -> http::Result<Request<Empty<Bytes>>> {
    Request::get(path).header(HOST, ADDRESS).body(Empty::new())
}

pub fn user_data(answer: Answer) -> Result<Option<Bytes>, BadAnswer> {
    content(answer)
}
