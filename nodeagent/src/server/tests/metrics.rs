//! Who asks the machine API what the machine uses.

use api::v1::metrics_client::MetricsClient;
use api::v1::{GroupKind, StreamMetricsRequest};
use controlplane::pki::MachineRole;
use tonic::Code;

use super::harness::Machine;

#[tokio::test]
async fn readers_see_pods_by_name_and_what_is_not_known_is_absent() {
    let machine = Machine::configured().await;
    let mut client = MetricsClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let mut answers = client.stream(StreamMetricsRequest::default()).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    let kinds: Vec<GroupKind> = first.groups.iter().map(|group| group.kind()).collect();
    assert_eq!(kinds, [GroupKind::Pod, GroupKind::Container]);
    let container = &first.groups[1];
    assert_eq!((&*container.namespace, &*container.pod, &*container.container), ("shop", "cart-1", "cart"));
    assert_eq!((container.memory_used_bytes, container.cpus_used, container.tasks), (Some(7168), None, None));
    assert!(container.pressure.is_none());

    let request = StreamMetricsRequest { node_only: true, ..Default::default() };
    let of_node = client.stream(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(of_node.groups.is_empty() && of_node.node.is_some());
}

#[tokio::test]
async fn intervals_that_make_no_sense_are_refused() {
    let machine = Machine::configured().await;
    let mut client = MetricsClient::new(machine.client(MachineRole::Reader).await.unwrap());
    for seconds in [-1, 3601] {
        let interval = Some(prost_types::Duration { seconds, nanos: 0 });
        let refused = client.stream(StreamMetricsRequest { interval, ..Default::default() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("interval"), "{refused}");
    }
}
