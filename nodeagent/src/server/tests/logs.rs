//! Logs and events over the API.

use std::fs::{self, OpenOptions};
use std::io::Write;

use api::v1::log_client::LogClient;
use api::v1::stream_request::Source;
use api::v1::{ContainerLog, EventsRequest, StreamRequest, StreamResponse};
use controlplane::pki::MachineRole;
use tonic::{Code, Streaming};

use super::harness::Machine;

fn append(machine: &Machine, text: &str) {
    fs::create_dir_all(machine.root.log_directory()).unwrap();
    let path = machine.root.log_directory().join("kubelet.log");
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn rotate(machine: &Machine) {
    let path = |name: &str| machine.root.log_directory().join(name);
    fs::rename(path("kubelet.log"), path("kubelet.log.1")).unwrap();
}

fn of_service(follow: bool, tail: Option<u32>) -> StreamRequest {
    StreamRequest { source: Some(Source::Service("kubelet".to_owned())), follow, tail }
}

/// Reads until the text ends so.
async fn until(stream: &mut Streaming<StreamResponse>, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let chunk =
            tokio::time::timeout(std::time::Duration::from_secs(10), stream.message()).await.unwrap_or_else(|_| panic!("only {text:?}"));
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap().lines).unwrap());
    }
    text
}

#[tokio::test]
async fn a_log_is_followed_over_its_rotation() {
    let machine = Machine::configured().await;
    let mut client = LogClient::new(machine.client(MachineRole::Reader).await.unwrap());
    assert_eq!(client.stream(of_service(false, None)).await.unwrap_err().code(), Code::NotFound);
    append(&machine, "one\ntwo\nthree\n");
    let mut stream = client.stream(of_service(false, Some(2))).await.unwrap().into_inner();
    assert_eq!(until(&mut stream, "three\n").await, "two\nthree\n");
    assert!(stream.message().await.unwrap().is_none());

    let mut stream = client.stream(of_service(true, Some(1))).await.unwrap().into_inner();
    assert_eq!(until(&mut stream, "three\n").await, "three\n");
    append(&machine, "four\n");
    rotate(&machine);
    append(&machine, "five\n");
    assert_eq!(until(&mut stream, "five\n").await, "four\nfive\n");
    append(&machine, "six\n");
    assert_eq!(until(&mut stream, "six\n").await, "six\n");
}

#[tokio::test]
async fn container_logs_are_found_by_pod() {
    let machine = Machine::configured().await;
    let directory = machine.root.pod_log_directory().join("default_web_77/nginx");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("0.log"), "2026-01-01T00:00:00Z stdout F hello\n").unwrap();
    let mut client = LogClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let of = |pod: &str| {
        let container = ContainerLog { namespace: "default".to_owned(), pod: pod.to_owned(), container: "nginx".to_owned() };
        StreamRequest { source: Some(Source::Container(container)), follow: false, tail: None }
    };
    let mut stream = client.stream(of("web")).await.unwrap().into_inner();
    assert_eq!(until(&mut stream, "\n").await, "hello\n");
    assert_eq!(client.stream(of("../../etc")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.stream(of("api")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn events_come_as_they_happen() {
    let machine = Machine::configured().await;
    let mut client = LogClient::new(machine.client(MachineRole::Reader).await.unwrap());
    machine.node.events.emit("machine", "Before", "before");
    let mut stream = client.events(EventsRequest { follow: true, tail: Some(1) }).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().event.unwrap().reason, "Before");
    machine.node.events.emit("machine", "After", "after");
    assert_eq!(stream.message().await.unwrap().unwrap().event.unwrap().reason, "After");
}
