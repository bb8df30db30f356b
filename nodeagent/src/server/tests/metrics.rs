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
async fn whoever_asks_for_heartbeats_hears_that_the_machine_is_there_while_its_figures_stay_as_they_are() {
    let machine = Machine::configured().await;
    let mut client = MetricsClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let heartbeat = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let request = StreamMetricsRequest { heartbeat, node_only: true, ..Default::default() };
    let mut answers = client.stream(request).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(first.at.is_some() && first.node.is_some());
    for _ in 0..3 {
        assert_eq!(answers.message().await.unwrap().unwrap(), Default::default());
    }
}

#[tokio::test]
async fn durations_that_make_no_sense_are_refused() {
    let machine = Machine::configured().await;
    let mut client = MetricsClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let duration = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let mut refused = async |field: &str, request: StreamMetricsRequest| {
        let refused = client.stream(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{refused}");
    };
    for interval in [duration(-1, 0), duration(3601, 0)] {
        refused("interval", StreamMetricsRequest { interval, ..Default::default() }).await;
    }
    for heartbeat in [duration(0, 0), duration(0, 99_000_000), duration(3601, 0)] {
        refused("heartbeat", StreamMetricsRequest { heartbeat, ..Default::default() }).await;
    }
}
