//! An HTTP server of few words: it reads a request's head and answers as the test says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A request without a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Debug, Clone)]
pub enum Reply {
    Bytes(Vec<u8>),
    /// Takes the request and says these bytes of an answer, and nothing more, for as long as the caller stays.
    Hang(Vec<u8>),
}

impl Reply {
    pub fn new(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        Reply::Bytes([head.as_bytes(), body].concat())
    }

    pub fn ok(body: impl AsRef<[u8]>) -> Reply {
        Reply::new(200, "", body)
    }

    pub fn status(status: u16) -> Reply {
        Reply::new(status, "", "")
    }
}

/// Serves until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Server {
        Server::start_with(None, answer).await
    }

    /// With TLS where there is an acceptor.
    pub async fn start_with(tls: Option<TlsAcceptor>, answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (kept, answer) = (asked.clone(), Arc::new(Mutex::new(answer)));
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, answer, tls) = (kept.clone(), answer.clone(), tls.clone());
                let reply = move |request: Request| {
                    kept.lock().unwrap().push(request.clone());
                    (answer.lock().unwrap())(&request)
                };
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, reply).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, reply).await
                            }
                        }
                    }
                });
            }
        });
        Server { address, asked, serving }
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: impl FnOnce(Request) -> Reply) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    // What a caller that has gone does not read is no matter of the server's.
    match reply(parse(&String::from_utf8(head).unwrap())) {
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Hang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            let _ = stream.read_u8().await;
        }
    }
}

fn parse(head: &str) -> Request {
    let mut lines = head.lines();
    let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
    let [method, path, "HTTP/1.1"] = first[..] else { panic!("{head}") };
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Request { method: method.to_owned(), path: path.to_owned(), headers: headers.collect() }
}
