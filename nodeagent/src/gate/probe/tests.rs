//! Questions to real servers on loopback, and pods as the API server tells of them.

use std::sync::Arc;

use machine::Root;
use machine::config::{Duration as Span, HttpCheck, TcpCheck};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::init_client::InitClient;
use crate::server::tls;

fn node() -> Node {
    let root = Root::new("/nowhere");
    Node::new(root.clone(), InitClient::new(root.init_socket()))
}

fn check(http: Option<(&str, u16)>, tcp: Option<SocketAddr>) -> HealthCheck {
    HealthCheck {
        name: None,
        http: http.map(|(url, status)| HttpCheck { url: url.to_owned(), status }),
        tcp: tcp.map(|address| TcpCheck { address: address.to_string() }),
        pod: None,
        timeout: Span(Duration::from_millis(500)),
    }
}

/// Answers one connection after the other; none: keeps it open without a word.
async fn serve(answer: Option<&'static str>, acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(answer) = answer else {
                kept.push(stream);
                continue;
            };
            match &acceptor {
                Some(acceptor) => reply(&mut acceptor.accept(stream).await.unwrap(), answer).await,
                None => reply(&mut stream, answer).await,
            }
        }
    });
    address
}

async fn reply(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), answer: &str) {
    let mut request = vec![0; 1024];
    let length = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
    assert!(request.starts_with("get /ready?deep=1 http/1.1\r\n") && request.contains("\r\nhost: 127.0.0.1:"), "{request}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn a_url_passes_by_its_status() {
    let address = serve(Some(OK), None).await;
    let url = format!("http://{address}/ready?deep=1");
    assert_eq!(ask(&node(), &check(Some((&url, 200)), None), None).await, Ok(()));
    let other = ask(&node(), &check(Some((&url, 204)), None), None).await;
    assert_eq!(other.unwrap_err(), "status 200; expected 204");
    let address = serve(Some("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), None).await;
    let busy = ask(&node(), &check(Some((&format!("http://{address}/ready?deep=1"), 200)), None), None).await;
    assert_eq!(busy.unwrap_err(), "status 503; expected 200");
    let address = serve(Some(""), None).await;
    let closed = ask(&node(), &check(Some((&format!("http://{address}/ready?deep=1"), 200)), None), None).await;
    assert!(closed.unwrap_err().contains("asking"));
}

#[tokio::test]
async fn any_certificate_will_do() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["elsewhere".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let address = serve(Some(OK), Some(TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("https://{address}/ready?deep=1");
    assert_eq!(ask(&node(), &check(Some((&url, 200)), None), None).await, Ok(()));
}

#[tokio::test]
async fn who_says_nothing_and_who_is_not_there() {
    let silent = serve(None, None).await;
    assert_eq!(ask(&node(), &check(None, Some(silent)), None).await, Ok(()));
    let late = ask(&node(), &check(Some((&format!("http://{silent}/"), 200)), None), None).await;
    assert_eq!(late.unwrap_err(), "no answer within 500ms");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = ask(&node(), &check(None, Some(closed)), None).await.unwrap_err();
    assert!(refused.starts_with(&format!("connecting to {closed}")), "{refused}");
    assert!(listens(silent).await.is_ok() && listens(closed).await.is_err());
}

fn pod(name: &str, ready: &str, phase: &str) -> Pod {
    let pod = json!({
        "metadata": { "name": name },
        "status": { "phase": phase, "conditions": [{ "type": "Ready", "status": ready }] },
    });
    serde_json::from_value(pod).unwrap()
}

#[test]
fn all_pods_that_fit_must_be_ready() {
    let wanted = PodCheck { namespace: "default".to_owned(), name: "web".to_owned() };
    let judged = |pods: &[Pod]| judge(&wanted, pods).map_err(|error| error.to_string());
    let good = [pod("web", "True", "Running"), pod("web-7f9c-x2x", "True", "Running"), pod("webhook-1", "False", "Running")];
    assert_eq!(judged(&good), Ok(()));
    assert_eq!(judged(&good[2..]), Err("no such pod runs on this machine".to_owned()));
    assert_eq!(judged(&[pod("web-1", "True", "Running"), pod("web-2", "False", "Running")]), Err("pod web-2 is not Ready".to_owned()));
    assert_eq!(judged(&[pod("web-1", "True", "Running"), pod("web-0", "False", "Succeeded")]), Ok(()));
    let mut leaving = pod("web-2", "False", "Running");
    leaving.metadata = serde_json::from_value(json!({ "name": "web-2", "deletionTimestamp": "2026-01-01T00:00:00Z" })).unwrap();
    assert_eq!(judged(&[pod("web-1", "True", "Running"), leaving]), Ok(()));
}
