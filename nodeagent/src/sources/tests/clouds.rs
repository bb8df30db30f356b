//! Metadata services of clouds, as their documentation has them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::server::{Reply, Request};

/// EC2, IMDSv2 only: tokens are valid for so many requests, as others are for so many seconds.
pub fn aws(user_data: Option<Vec<u8>>, uses: u32) -> impl FnMut(&Request) -> Reply + Send {
    let (mut number, mut left) = (0, 0);
    move |request| match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => {
            let seconds = request.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|text| text.parse().ok());
            match seconds {
                Some(1..=21_600) => {
                    (number, left) = (number + 1, uses);
                    Reply::ok(format!("token-{number}=="))
                }
                _ => Reply::status(400),
            }
        }
        ("GET", path @ ("/latest/user-data" | "/latest/dynamic/instance-identity/document")) => {
            if left == 0 || request.header("x-aws-ec2-metadata-token") != Some(&format!("token-{number}==")) {
                return Reply::status(401);
            }
            left -= 1;
            if path != "/latest/user-data" {
                return Reply::ok(include_str!("clouds/aws-identity.json"));
            }
            user_data.as_ref().map_or(Reply::status(404), Reply::ok)
        }
        _ => Reply::status(404),
    }
}

pub fn gcp(user_data: Option<Vec<u8>>) -> impl FnMut(&Request) -> Reply + Send {
    const FLAVOR: &str = "Metadata-Flavor: Google\r\n";
    move |request| {
        let fitting = request.header("metadata-flavor") == Some("Google") && request.header("x-forwarded-for").is_none();
        if !fitting || request.header("host") != Some("metadata.google.internal") {
            return Reply::new(403, FLAVOR, "");
        }
        match (request.method.as_str(), request.path.as_str(), &user_data) {
            ("GET", "/computeMetadata/v1/instance/attributes/user-data", Some(data)) => Reply::new(200, FLAVOR, data),
            ("GET", "/computeMetadata/v1/project/project-id", _) => Reply::new(200, FLAVOR, "my-project"),
            ("GET", "/computeMetadata/v1/instance/zone", _) => Reply::new(200, FLAVOR, "projects/123456789012/zones/europe-west3-c"),
            ("GET", "/computeMetadata/v1/instance/name", _) => Reply::new(200, FLAVOR, "node-1"),
            _ => Reply::new(404, FLAVOR, "not found"),
        }
    }
}

pub fn azure(user_data: Vec<u8>) -> impl FnMut(&Request) -> Reply + Send {
    move |request| {
        if request.header("metadata") != Some("true") {
            return Reply::status(400);
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/metadata/instance/compute/userData?api-version=2021-01-01&format=text") => Reply::ok(STANDARD.encode(&user_data)),
            ("GET", "/metadata/instance/compute?api-version=2021-01-01&format=json") => {
                Reply::ok(include_str!("clouds/azure-compute.json"))
            }
            ("GET", _) => Reply::status(400),
            _ => Reply::status(405),
        }
    }
}

pub fn openstack(user_data: Option<Vec<u8>>) -> impl FnMut(&Request) -> Reply + Send {
    move |request| match (request.method.as_str(), request.path.as_str(), &user_data) {
        ("GET", "/openstack/latest/user_data", Some(data)) => Reply::ok(data),
        ("GET", "/openstack/latest/meta_data.json", _) => Reply::ok(include_str!("clouds/openstack-meta_data.json")),
        _ => Reply::status(404),
    }
}
