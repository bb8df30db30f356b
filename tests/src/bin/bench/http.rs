//! Asks a server on loopback over one connection that stays open, as scrapers and schedulers do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client(sender))
    }

    /// The answer's body, and how long it took until all of it was there.
    pub async fn ask(&mut self, method: &str, path: &str, body: Bytes) -> anyhow::Result<(Bytes, Duration)> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost").header("content-type", "application/json");
        let request = request.body(Full::new(body))?;
        let began = Instant::now();
        let ask = async {
            self.0.ready().await?;
            let response = self.0.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, text) = timeout(PATIENCE, ask).await.with_context(|| format!("no answer to {method} {path}"))??;
        ensure!(status.is_success(), "{method} {path}: {status}: {}", String::from_utf8_lossy(&text));
        Ok((text, began.elapsed()))
    }
}
