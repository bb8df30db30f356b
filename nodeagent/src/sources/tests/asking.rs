//! One source, asked: each cloud's protocol, and servers that do not behave.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use controlplane::pki::{CertificateRequest, San, Usage, self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::server::{Reply, Server};
use super::{Machine, clouds, outside};
use crate::config::MAX_DOCUMENT_BYTES;
use crate::sources::ask::{Asker, Outside};
use crate::sources::plan::Source;

fn asker(server: &Server) -> Asker {
    Asker::new(Machine::new().node, &outside(server))
}

async fn content(asker: &mut Asker, source: &Source) -> Option<Vec<u8>> {
    asker.ask(source).await.unwrap().map(|found| found.content)
}

async fn error(asker: &mut Asker, source: &Source) -> String {
    format!("{:#}", asker.ask(source).await.unwrap_err())
}

#[tokio::test]
async fn aws_gives_a_token_first() {
    let server = Server::start(clouds::aws(Some(b"text".to_vec()), 100)).await;
    let mut asker = asker(&server);
    for _ in 0..3 {
        assert_eq!(content(&mut asker, &Source::Aws).await.unwrap(), b"text");
    }
    let methods: Vec<String> = server.asked().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "GET", "GET", "GET"], "a token is used until it has run out");
}

#[tokio::test]
async fn an_aws_token_that_has_run_out_is_replaced() {
    let server = Server::start(clouds::aws(Some(b"text".to_vec()), 1)).await;
    let mut asker = asker(&server);
    for _ in 0..2 {
        assert_eq!(content(&mut asker, &Source::Aws).await.unwrap(), b"text");
    }
    let methods: Vec<String> = server.asked().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "GET", "GET", "PUT", "GET"]);
    // One that refuses even a fresh token is not asked without end.
    let server = Server::start(clouds::aws(None, 0)).await;
    assert!(error(&mut self::asker(&server), &Source::Aws).await.contains("401"));
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn aws_without_user_data_and_without_a_service() {
    let server = Server::start(clouds::aws(None, 100)).await;
    assert_eq!(content(&mut asker(&server), &Source::Aws).await, None);
    let server = Server::start(|_| Reply::status(403)).await;
    assert!(error(&mut asker(&server), &Source::Aws).await.contains("403"));
    let server = Server::start(|_| Reply::ok("\n")).await;
    assert!(error(&mut asker(&server), &Source::Aws).await.contains("no token"));
}

#[tokio::test]
async fn gcp_and_its_impostors() {
    let server = Server::start(clouds::gcp(Some(b"text".to_vec()))).await;
    assert_eq!(content(&mut asker(&server), &Source::Gcp).await.unwrap(), b"text");
    let server = Server::start(clouds::gcp(None)).await;
    assert_eq!(content(&mut asker(&server), &Source::Gcp).await, None);
    for flavor in ["", "Metadata-Flavor: Other\r\n"] {
        let server = Server::start(move |_| Reply::new(200, flavor, "text")).await;
        assert!(error(&mut asker(&server), &Source::Gcp).await.contains("Metadata-Flavor: Google"));
    }
}

#[tokio::test]
async fn azure_speaks_base64() {
    let data: Vec<u8> = (0..=255).collect();
    let server = Server::start(clouds::azure(data.clone())).await;
    assert_eq!(content(&mut asker(&server), &Source::Azure).await.unwrap(), data);
    let server = Server::start(|_| Reply::ok("dGV4\ndA==\n")).await;
    assert_eq!(content(&mut asker(&server), &Source::Azure).await.unwrap(), b"text");
    let server = Server::start(|_| Reply::ok("text: 1")).await;
    assert!(error(&mut asker(&server), &Source::Azure).await.contains("base64"));
}

#[tokio::test]
async fn openstack() {
    let server = Server::start(clouds::openstack(Some(b"text".to_vec()))).await;
    assert_eq!(content(&mut asker(&server), &Source::OpenStack).await.unwrap(), b"text");
    assert_eq!(server.asked()[0].header("host"), Some("169.254.169.254"));
    let server = Server::start(clouds::openstack(None)).await;
    assert_eq!(content(&mut asker(&server), &Source::OpenStack).await, None);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start(|_| Reply::new(302, "Location: http://192.0.2.1/\r\n", "")).await;
    let error = error(&mut asker(&server), &Source::OpenStack).await;
    assert!(error.contains("redirect to \"http://192.0.2.1/\""), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_deadline() {
    for said in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntext"] {
        let server = Server::start(move |_| Reply::Hang(said.as_bytes().to_vec())).await;
        let mut short = outside(&server);
        short.deadlines.whole = Duration::from_millis(200);
        let began = Instant::now();
        let error = error(&mut Asker::new(Machine::new().node, &short), &Source::OpenStack).await;
        assert!(error.contains("no whole answer") && error.contains("200 ms"), "{error}");
        assert!(began.elapsed() >= short.deadlines.whole);
    }
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::start(|_| Reply::ok("")).await;
    // A port that was just given back.
    let metadata = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut asker = Asker::new(Machine::new().node, &Outside { metadata, ..outside(&server) });
    assert!(error(&mut asker, &Source::OpenStack).await.contains("connecting to 127.0.0.1"));
}

#[tokio::test]
async fn an_answer_is_bounded_with_and_without_a_length() {
    let server = Server::start(|_| Reply::ok(vec![b'a'; MAX_DOCUMENT_BYTES])).await;
    assert_eq!(content(&mut asker(&server), &Source::OpenStack).await.unwrap().len(), MAX_DOCUMENT_BYTES);
    let server = Server::start(|_| Reply::ok(vec![b'a'; MAX_DOCUMENT_BYTES + 1])).await;
    assert!(error(&mut asker(&server), &Source::OpenStack).await.contains("more than 1048576 bytes"));
    let endless = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'a'; 4 * MAX_DOCUMENT_BYTES]].concat();
    let server = Server::start(move |_| Reply::Bytes(endless.clone())).await;
    assert!(error(&mut asker(&server), &Source::OpenStack).await.contains("more than 1048576 bytes"));
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(200_000)).into_bytes();
    let server = Server::start(move |_| Reply::Bytes(head.clone())).await;
    assert!(error(&mut asker(&server), &Source::OpenStack).await.contains("asking 127.0.0.1"));
}

#[tokio::test]
async fn an_answer_cut_short_is_no_config() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntext".to_vec();
    let server = Server::start(move |_| Reply::Bytes(cut.clone())).await;
    assert!(error(&mut asker(&server), &Source::OpenStack).await.contains("reading the answer"));
}

#[tokio::test]
async fn a_url_over_http() {
    let server = Server::start(|request| if request.path == "/cp.yaml?node=7" { Reply::ok("text") } else { Reply::status(404) }).await;
    let url = |path: &str| Source::Url(format!("http://{}{path}", server.address).parse().unwrap());
    let mut asker = asker(&server);
    let found = asker.ask(&url("/cp.yaml?node=7")).await.unwrap().unwrap();
    assert_eq!((found.content.as_slice(), found.place), (b"text".as_slice(), format!("http://{}/cp.yaml", server.address)));
    assert_eq!(content(&mut asker, &url("/other")).await, None);
    assert_eq!(server.asked()[0].header("host"), Some(server.address.to_string().as_str()));
    let nameless = Source::Url("http://boot.example.com/".parse().unwrap());
    assert!(error(&mut asker, &nameless).await.contains("no name server"));
}

#[tokio::test]
async fn a_url_over_https_by_the_images_authorities() {
    let day = Duration::from_secs(86_400);
    let request = CertificateRequest {
        common_name: "boot".to_owned(),
        organization: None,
        sans: San::loopback(),
        usage: Usage::Server,
        lifetime: day,
    };
    let issued = self_signed(&request, SystemTime::now()).unwrap();
    let certificate = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.reveal().as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let server = Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), |_| Reply::ok("text")).await;

    let machine = Machine::new();
    let mut asker = Asker::new(machine.node.clone(), &outside(&server));
    let url = Source::Url(format!("https://{}/cp.yaml", server.address).parse().unwrap());
    let bundle = machine.node.root.ca_certificates();
    assert!(error(&mut asker, &url).await.contains("ca-certificates.crt"));
    std::fs::create_dir_all(bundle.parent().unwrap()).unwrap();
    let stranger = self_signed(&request, SystemTime::now()).unwrap();
    std::fs::write(&bundle, stranger.certificate_pem).unwrap();
    assert!(error(&mut asker, &url).await.contains("checking the certificate"));
    std::fs::write(&bundle, issued.certificate_pem).unwrap();
    assert_eq!(content(&mut asker, &url).await.unwrap(), b"text");
}
