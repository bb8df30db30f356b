//! Sinks on loopback that take records, hang up, and come back.

use std::sync::Arc;

use machine::audit::{Call, Record};
use machine::config::Config;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::audit::End;
use crate::node::Applied;
use crate::server::testing::{self, Machine};

async fn machine(url: &str) -> Machine {
    let machine = Machine::configured().await;
    let text = testing::config();
    let text = text.replacen("\nmachine:\n", &format!("\nmachine:\n  audit: {{ sinks: [{{ url: \"{url}\" }}] }}\n"), 1);
    let config: Config = machine::config::load(&text, "test").unwrap();
    machine.node.set_config(Applied { generation: 2, config: Arc::new(config) });
    machine
}

async fn call(machine: &Machine, method: &str) {
    let text = |text: &str| text.to_owned();
    let call = Call { subject: text("os:admin/alice"), role: text("admin"), address: text("192.0.2.1:1"), method: text(method) };
    let begun = machine.audit.begin(call).await;
    begun.end(End { request_sha256: String::new(), request_bytes: 0, code: text("OK") });
}

fn record(line: &str) -> Record {
    serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
}

/// One message in a counted frame.
async fn frame(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut count = Vec::new();
    stream.read_until(b' ', &mut count).await.ok()?;
    let count: usize = String::from_utf8(count).ok()?.trim().parse().ok()?;
    let mut message = vec![0; count];
    stream.read_exact(&mut message).await.ok()?;
    Some(String::from_utf8(message).unwrap())
}

#[tokio::test]
async fn a_stream_that_comes_back_gets_what_it_missed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let machine = machine(&format!("tcp://{address}")).await;
    let task = tokio::spawn(deliver(machine.node.clone(), machine.audit.clone()));
    let mut stream = BufReader::new(listener.accept().await.unwrap().0);
    // The first config's two records, and then two more.
    assert_eq!(record(&frame(&mut stream).await.unwrap()).number, 1);
    assert_eq!(record(&frame(&mut stream).await.unwrap()).number, 2);
    call(&machine, "/a/One").await;
    let three = frame(&mut stream).await.unwrap();
    assert!(three.starts_with("<109>1 ") && three.contains(" corten-audit - begun - "), "{three}");
    assert_eq!(record(&three).call.method, "/a/One");
    assert_eq!(record(&frame(&mut stream).await.unwrap()).number, 4);
    drop((stream, listener));

    call(&machine, "/a/Two").await;
    let status = || machine.node.store.all::<AuditSinkStatus>().into_values().next().unwrap_or_default();
    for _ in 0..500 {
        if !status().error.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(status().delivered >= 4 && !status().error.is_empty(), "{:?}", status());

    // An agent that was started again: what the connection that broke may have lost is sent once more.
    task.abort();
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(deliver(machine.node.clone(), machine.audit.clone()));
    let mut stream = BufReader::new(listener.accept().await.unwrap().0);
    for number in 1..=6 {
        let record = record(&frame(&mut stream).await.unwrap());
        assert_eq!((record.number, record.call.method == "/a/Two"), (number, number > 4));
    }
}

#[tokio::test]
async fn datagrams_are_one_record_each() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let machine = machine(&format!("udp://{}", socket.local_addr().unwrap())).await;
    tokio::spawn(deliver(machine.node.clone(), machine.audit.clone()));
    let mut datagram = [0; 2048];
    for number in 1..=2 {
        let bytes = socket.recv(&mut datagram).await.unwrap();
        assert_eq!(record(std::str::from_utf8(&datagram[..bytes]).unwrap()).number, number);
    }
}

#[tokio::test]
async fn a_post_that_is_refused_is_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let machine = machine(&format!("http://{}/audit", listener.local_addr().unwrap())).await;
    tokio::spawn(deliver(machine.node.clone(), machine.audit.clone()));
    for status in ["503 Service Unavailable", "204 No Content"] {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).await.unwrap(), 0);
        }
        assert!(head.starts_with("POST /audit HTTP/1.1\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(record(body.lines().next().unwrap()).number, 1, "{status}");
        stream.write_all(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    }
}
