//! Captures over the API.

use std::net::UdpSocket;

use api::v1::capture_client::CaptureClient;
use api::v1::{PacketFilter, PacketLimits, PacketProtocol, PacketsEnd, PacketsRequest, PacketsResponse};
use controlplane::pki::MachineRole;
use tonic::{Code, Streaming};

use super::harness::Machine;

fn request(filter: PacketFilter, limits: PacketLimits) -> PacketsRequest {
    PacketsRequest { filter: Some(filter), limits: Some(limits) }
}

async fn until_end(mut stream: Streaming<PacketsResponse>) -> (Vec<u8>, PacketsResponse) {
    let (mut file, mut last) = (Vec::new(), PacketsResponse::default());
    while let Some(message) = stream.message().await.unwrap() {
        file.extend(&message.chunk);
        last = message;
    }
    (file, last)
}

#[tokio::test]
async fn packets_come_as_a_file_until_a_limit_is_met() {
    let machine = Machine::configured().await;
    let mut client = CaptureClient::new(machine.admin().await);
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let filter =
        PacketFilter { link: "lo".to_owned(), protocol: PacketProtocol::Udp.into(), host: "127.0.0.1".to_owned(), port: to.port().into() };
    let limits = PacketLimits { packets: 1, ..PacketLimits::default() };
    let mut stream = client.packets(request(filter.clone(), limits)).await.unwrap().into_inner();
    let head = stream.message().await.unwrap().unwrap();
    assert_eq!((head.chunk.len(), head.packets), (24, 0), "it listens from here on");
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"what is sent", to).unwrap();
    let (file, last) = until_end(stream).await;
    assert!(file.ends_with(b"what is sent"));
    assert_eq!((last.packets, last.dropped, last.end()), (1, 0, PacketsEnd::Packets));

    let moment = prost_types::Duration { seconds: 0, nanos: 1_000_000 };
    let limits = PacketLimits { time: Some(moment), ..PacketLimits::default() };
    let stream = client.packets(request(filter, limits)).await.unwrap().into_inner();
    let (file, last) = until_end(stream).await;
    assert_eq!((file.len(), last.packets, last.end()), (24, 0, PacketsEnd::Time));
}

#[tokio::test]
async fn what_cannot_be_captured_is_said() {
    let machine = Machine::configured().await;
    let mut client = CaptureClient::new(machine.admin().await);
    let (filter, limits) = (PacketFilter::default(), PacketLimits::default());
    let hour = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (field, request) in [
        ("filter.link", request(PacketFilter { link: "no-such-link".to_owned(), ..filter.clone() }, limits)),
        ("filter.host", request(PacketFilter { host: "example.com".to_owned(), ..filter.clone() }, limits)),
        ("filter.port", request(PacketFilter { port: 65_536, ..filter.clone() }, limits)),
        ("filter.port", request(PacketFilter { port: 1, protocol: PacketProtocol::Icmp.into(), ..filter.clone() }, limits)),
        ("filter.protocol", request(PacketFilter { protocol: 99, ..filter.clone() }, limits)),
        ("limits.bytes", request(filter.clone(), PacketLimits { bytes: (1 << 30) + 1, ..limits })),
        ("limits.time", request(filter.clone(), PacketLimits { time: hour(3601), ..limits })),
        ("limits.time", request(filter.clone(), PacketLimits { time: hour(0), ..limits })),
    ] {
        let refused = client.packets(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        assert!(refused.message().starts_with(field), "{field}: {}", refused.message());
    }
    let mut operator = CaptureClient::new(machine.client(MachineRole::Operator).await.unwrap());
    assert_eq!(operator.packets(PacketsRequest::default()).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn few_captures_go_at_a_time() {
    let machine = Machine::configured().await;
    let mut client = CaptureClient::new(machine.admin().await);
    // A port that nobody sends to.
    let quiet = UdpSocket::bind("127.0.0.1:0").unwrap();
    let filter = PacketFilter { port: quiet.local_addr().unwrap().port().into(), ..PacketFilter::default() };
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(client.packets(request(filter.clone(), PacketLimits::default())).await.unwrap());
    }
    let refused = client.packets(request(filter.clone(), PacketLimits::default())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    running.pop();
    let again = async {
        while client.packets(request(filter.clone(), PacketLimits::default())).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), again).await.expect("the one that went away left its place");
}
