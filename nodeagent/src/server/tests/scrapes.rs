//! Scrapers of `/metrics`.

use std::net::SocketAddr;
use std::time::SystemTime;

use controlplane::pki::{MachineRole, Usage};
use http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use metrics::names::{Container, Pod};
use metrics::place::Quality;
use metrics::sample::{Cpu, Memory, Sample};
use metrics::{Names, Place, Reading, Snapshot};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::harness::{DAY, Machine, issue, tls13};

const UID: &str = "0f5a1c1e-9b1c-4c39-8a52-3a7e4a5d9d10";

/// Of a machine that runs one pod.
pub fn snapshot() -> Snapshot {
    let sample = Sample {
        cpu: Some(Cpu { usage_usec: 2_500_000, ..Cpu::default() }),
        memory: Some(Memory { current: 8192, inactive_file: 1024, ..Memory::default() }),
        ..Sample::default()
    };
    let reading = |place| Reading { place, inode: 1, since: SystemTime::UNIX_EPOCH, sample, rates: Default::default() };
    let container = Place::Container(Quality::Burstable, UID.into(), "ab".repeat(32).into());
    Snapshot { groups: vec![reading(Place::Pod(Quality::Burstable, UID.into())), reading(container)], ..Snapshot::default() }
}

pub fn names() -> Names {
    let pod = Pod { namespace: "shop".to_owned(), name: "cart-1".to_owned() };
    let container = Container { name: "cart".to_owned(), image: "cart:1".to_owned(), is_sandbox: false };
    Names { pods: [(UID.to_owned(), pod)].into(), containers: [("ab".repeat(32), container)].into() }
}

/// What a scraper is answered over HTTP/1.1.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

pub async fn ask(address: SocketAddr, mut client: ClientConfig, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        headers.iter().fold(Request::get(path).header("host", "localhost"), |request, (name, value)| request.header(*name, *value));
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.into_body().collect().await.unwrap().to_bytes();
    Answer { status, headers, text: String::from_utf8(text.to_vec()).unwrap() }
}

/// Status, kind and text.
async fn scrape(machine: &Machine, client: ClientConfig, path: &str, accept: &str) -> (u16, String, String) {
    let Answer { status, headers, text } = ask(machine.address, client, path, &[("accept", accept)]).await;
    let kind = headers.get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    (status, kind, text)
}

fn of_role(role: Option<&str>) -> ClientConfig {
    tls13(&issue("prometheus", role, Usage::Client, DAY, SystemTime::now()))
}

#[tokio::test]
async fn a_reader_scrapes_in_either_format() {
    let machine = Machine::configured().await;
    let reader = of_role(Some("os:reader"));
    let (status, kind, text) = scrape(&machine, reader.clone(), "/metrics", "application/openmetrics-text;version=1.0.0").await;
    assert_eq!((status, &*kind), (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let labels = format!(
        "container=\"cart\",id=\"/kubepods/burstable/pod{UID}/{id}\",image=\"cart:1\",name=\"{id}\",namespace=\"shop\",pod=\"cart-1\"",
        id = "ab".repeat(32)
    );
    assert!(text.contains(&format!("container_memory_working_set_bytes{{{labels}}} 7168\n")), "{text}");
    assert!(text.ends_with("# EOF\n"));
    let stage = machine.node.stage().name();
    assert!(
        text.contains(&format!("corten_stage{{stage=\"{stage}\"}} 1\n")) && text.contains("corten_stage{stage=\"maintenance\"} 0\n"),
        "{text}"
    );

    let (status, kind, text) = scrape(&machine, reader, "/metrics", "*/*").await;
    assert_eq!((status, &*kind), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(text.contains("pod_cpu_usage_seconds_total{namespace=\"shop\",pod=\"cart-1\"} 2.5\n"), "{text}");
}

#[tokio::test]
async fn whoever_may_not_gets_nothing_and_an_http_status() {
    let machine = Machine::configured().await;
    let machines = MachineRole::Machine.to_string();
    for role in [None, Some(&*machines)] {
        let (status, _, text) = scrape(&machine, of_role(role), "/metrics", "*/*").await;
        assert_eq!(status, 403, "{role:?}");
        assert!(!text.contains("container_") && text.contains("os:reader"), "{text}");
    }
    let (_, _, text) = scrape(&machine, of_role(Some("os:reader")), "/metrics/", "*/*").await;
    assert!(!text.contains("container_"), "{text}");
}
