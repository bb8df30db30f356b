//! Who a machine is, as its cloud says.

use super::super::metadata::Metadata;
use super::server::{Reply, Request, Server};
use super::{clouds, outside};

async fn asked(platform: &str, answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Result<String, String> {
    let server = Server::start(answer).await;
    let outside = outside(&server);
    let mut metadata = Metadata::new(outside.metadata, outside.deadlines);
    metadata.provider_id(platform).await.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn machines_are_named_as_their_clouds_controllers_name_them() {
    for (platform, expected) in [
        ("aws", "aws:///eu-central-1a/i-0123456789abcdef0"),
        ("gcp", "gce://my-project/europe-west3-c/node-1"),
        (
            "azure",
            "azure:///subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/my_group/providers/Microsoft.Compute/virtualMachines/node-1",
        ),
        ("openstack", "openstack:///d8e02d56-2648-49a3-bf97-6be8f1204f38"),
    ] {
        let found = match platform {
            "aws" => asked(platform, clouds::aws(None, 10)).await,
            "gcp" => asked(platform, clouds::gcp(None)).await,
            "azure" => asked(platform, clouds::azure(Vec::new())).await,
            _ => asked(platform, clouds::openstack(None)).await,
        };
        assert_eq!(found.as_deref(), Ok(expected), "{platform}");
    }
}

#[tokio::test]
async fn what_is_no_identity_is_not_taken() {
    let long = format!(r#"{{"uuid": "{}"}}"#, "a".repeat(200));
    for body in ["", "{}", r#"{"uuid": ""}"#, r#"{"uuid": "a/b"}"#, r#"{"uuid": "a\nb: c"}"#, "<html>", &long] {
        let body = body.to_owned();
        let error = asked("openstack", move |_| Reply::ok(&body)).await.unwrap_err();
        assert!(error.contains("its answer is no "), "{error}");
    }
    assert!(asked("openstack", |_| Reply::status(404)).await.unwrap_err().contains("404"));
    for id in
        ["subscriptions/a", "/subscriptions/a", "/x/a/resourceGroups/b/providers/c/d/e", "/subscriptions/a/resourceGroups/b/providers//d/e"]
    {
        let body = format!(r#"{{"resourceId": "{id}"}}"#);
        asked("azure", move |_| Reply::ok(&body)).await.unwrap_err();
    }
    assert!(asked("metal", |_| Reply::status(404)).await.unwrap_err().contains("metal"));
}
