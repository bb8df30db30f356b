//! Calls that a control plane passes on to another machine.

use api::v1::ApplyRequest;
use api::v1::config_client::ConfigClient;
use api::v1::machine_client::MachineClient;
use api::v1::{GetVersionRequest, RebootRequest};
use controlplane::pki::MachineRole;
use machine::audit::Event;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::audit::until;
use super::harness::{Machine, config};
use crate::resources::network::{Hostname, NodeIps};

/// A control plane that knows its name.
async fn control_plane() -> Machine {
    let machine = Machine::configured().await;
    let name = Hostname { hostname: "cp-1".to_owned(), source: String::new() };
    machine.node.store.put(Hostname::NAME, &name);
    machine.node.store.put(NodeIps::NAME, &NodeIps { addresses: vec!["192.0.2.10".parse().unwrap()] });
    machine
}

fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, MetadataValue::try_from(*value).unwrap());
    }
    request
}

fn dry_run() -> ApplyRequest {
    ApplyRequest { document: config().into_bytes(), dry_run: true, ..Default::default() }
}

async fn apply(channel: Channel, headers: &[(&'static str, &str)]) -> Result<(), Code> {
    ConfigClient::new(channel).apply(with(dry_run(), headers)).await.map(drop).map_err(|status| status.code())
}

#[tokio::test]
async fn the_callers_role_decides_at_the_other_machine_which_records_who_it_was() {
    let (first, second) = (control_plane().await, Machine::configured().await);
    let there = second.address.to_string();
    apply(first.admin().await, &[("corten-node", &there)]).await.unwrap();
    let records = until(&second, 3, 2).await;
    let call = &records[0].call;
    assert!(call.subject.starts_with("os:admin/alice through cp-1 (127.0.0.1:"), "{call:?}");
    assert_eq!((call.role.as_str(), call.method.as_str()), ("admin", "/corten.machine.v1.Config/Apply"));
    assert!(matches!(&records[1].event, Event::Ended { code, .. } if code == "OK"));
    // The control plane itself was not changed.
    assert_eq!(until(&first, 0, 2).await.len(), 2);

    let reader = first.client(MachineRole::Reader).await.unwrap();
    assert_eq!(apply(reader.clone(), &[("corten-node", &there)]).await, Err(Code::PermissionDenied));
    // A role is not what somebody says of himself.
    for channel in [reader.clone(), second.client(MachineRole::Reader).await.unwrap()] {
        let lies = [("corten-caller-role", "os:admin"), ("corten-caller-subject", "os:admin/alice"), ("corten-caller-address", "x")];
        assert_eq!(apply(channel.clone(), &lies).await, Err(Code::PermissionDenied));
        assert_eq!(apply(channel, &[lies.as_slice(), &[("corten-node", &there)]].concat()).await, Err(Code::PermissionDenied));
    }
    MachineClient::new(reader).get_version(with(GetVersionRequest {}, &[("corten-node", &there)])).await.unwrap();
}

#[tokio::test]
async fn a_call_for_the_machine_itself_stays_there_and_one_for_nobody_says_so() {
    let machine = control_plane().await;
    for own in ["cp-1", "192.0.2.10", "192.0.2.10:50000"] {
        apply(machine.admin().await, &[("corten-node", own)]).await.unwrap();
    }
    for (node, code) in [("127.0.0.1:9", Code::Unavailable), ("a b", Code::InvalidArgument), ("", Code::InvalidArgument)] {
        assert_eq!(apply(machine.admin().await, &[("corten-node", node)]).await, Err(code), "{node}");
    }
}

#[tokio::test]
async fn whoever_passes_calls_on_has_no_role_of_its_own() {
    let machine = control_plane().await;
    let proxy = machine.client(MachineRole::Proxy).await.unwrap();
    let mut client = MachineClient::new(proxy.clone());
    let denied = client.reboot(RebootRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(apply(proxy.clone(), &[("corten-caller-role", "os:machine")]).await, Err(Code::PermissionDenied));
    // Passed on once, and no further.
    assert_eq!(apply(proxy, &[("corten-caller-role", "os:admin"), ("corten-node", "127.0.0.1:9")]).await, Ok(()));
    // Machines have no role either, and pass nothing on.
    let agent = machine.client(MachineRole::Machine).await.unwrap();
    assert_eq!(apply(agent, &[("corten-node", "127.0.0.1:9")]).await, Err(Code::PermissionDenied));
}
