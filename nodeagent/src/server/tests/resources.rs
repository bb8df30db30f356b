//! The board over the API.

use api::v1::machine_client::MachineClient;
use api::v1::resource_client::ResourceClient;
use api::v1::watch_resources_response::Change;
use api::v1::{GetResourceRequest, ListBootsRequest, ListKindsRequest, ListResourcesRequest, WatchResourcesRequest};
use controlplane::pki::MachineRole;
use machine::protocol::Event;
use machine::service::ServiceState;
use tonic::Code;

use super::harness::Machine;
use super::init::service;

#[tokio::test]
async fn what_init_tells_is_listed() {
    let machine = Machine::configured().await;
    let mut client = ResourceClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let kinds = client.list_kinds(ListKindsRequest {}).await.unwrap().into_inner().kinds;
    assert!(kinds.iter().any(|kind| kind.name == "services" && !kind.columns.is_empty()));

    machine.init.tell(Event::Service(service("kubelet", ServiceState::Starting)));
    machine.until_event("service/kubelet Started").await;
    let listed = client.list(ListResourcesRequest { kind: "services".to_owned() }).await.unwrap().into_inner().objects;
    let kubelet = listed.iter().find(|object| object.name == "kubelet").unwrap();
    let status = api::json::from_struct(kubelet.status.clone().unwrap());
    assert_eq!((status["state"].as_str(), status["pid"].as_i64(), kubelet.spec.as_ref()), (Some("starting"), Some(100), None));

    let one = GetResourceRequest { kind: "volumes".to_owned(), name: "state".to_owned() };
    assert_eq!(client.get(one).await.unwrap().into_inner().object.unwrap().name, "state");
    let none = GetResourceRequest { kind: "volumes".to_owned(), name: "swap".to_owned() };
    assert_eq!(client.get(none).await.unwrap_err().code(), Code::NotFound);
    let unknown = client.list(ListResourcesRequest { kind: "secrets".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let sensitive = client.list(ListResourcesRequest { kind: "servicespecs".to_owned() }).await.unwrap_err();
    assert_eq!(sensitive.code(), Code::PermissionDenied);
    let mut admin = ResourceClient::new(machine.admin().await);
    admin.list(ListResourcesRequest { kind: "servicespecs".to_owned() }).await.unwrap();
}

#[tokio::test]
async fn boots_are_listed_in_maintenance_too() {
    let machine = Machine::new().await;
    crate::boots::Boots::new(machine.node.clone()).begin().await;
    let mut client = MachineClient::new(machine.stranger().await.unwrap());
    let boots = client.list_boots(ListBootsRequest {}).await.unwrap().into_inner().boots;
    let [boot] = boots.as_slice() else { panic!("{boots:?}") };
    assert_eq!((boot.number, boot.boot_id.as_str(), boot.slot.as_str(), boot.ending.as_str()), (1, "this boot", "a", "running"));
    assert!(boot.started_at.is_some() && boot.ended_at.is_none());
}

#[tokio::test]
async fn a_watch_has_no_gaps_even_when_the_watcher_falls_behind() {
    let machine = Machine::configured().await;
    let mut client = ResourceClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let request = WatchResourcesRequest { kind: "leases".to_owned(), name: String::new() };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().change(), Change::Synced);

    // Far more than the backlog, while nobody reads.
    let lease = |seconds| crate::resources::network::Lease {
        address: "192.0.2.7/24".parse().unwrap(),
        routes: Vec::new(),
        nameservers: Vec::new(),
        time_servers: Vec::new(),
        hostname: None,
        mtu: None,
        server: "192.0.2.1".parse().unwrap(),
        seconds,
    };
    machine.node.store.put("gone", &lease(1));
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!((first.change(), first.object.unwrap().name.as_str()), (Change::Put, "gone"));
    machine.node.store.remove::<crate::resources::network::Lease>("gone");
    for seconds in 0..5_000 {
        machine.node.store.put(&format!("eth{}", seconds % 7), &lease(seconds));
    }
    machine.node.store.put("last", &lease(0));

    let mut seen = std::collections::BTreeMap::new();
    let mut removed = false;
    loop {
        let message = watch.message().await.unwrap().unwrap();
        let (change, object) = (message.change(), message.object.unwrap());
        match change {
            Change::Removed => removed |= object.name == "gone",
            Change::Put => {
                let before = seen.insert(object.name.clone(), object.revision);
                assert!(before.is_none_or(|before| before < object.revision), "an older revision after a newer one");
                if object.name == "last" {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(removed);
    let newest: std::collections::BTreeMap<String, u64> =
        machine.node.store.list("leases").into_iter().map(|object| (object.name, object.revision)).collect();
    assert_eq!(seen, newest);
}
