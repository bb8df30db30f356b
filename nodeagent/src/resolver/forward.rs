//! Passes a question on to the machine's name servers, as it came, and takes the first answer that is one. A server that lets wait is not waited
//! for: the next one is asked beside it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};

use super::message::{self, Worth};

/// How a question came, and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Until the next server is asked as well.
const PATIENCE: Duration = Duration::from_millis(800);
/// For all of it: shorter than the five seconds that programs wait for an answer.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long a server that gave no answer is asked last.
const DISTRUST: Duration = Duration::from_secs(30);

/// Which servers gave no answer, and until when they come last.
#[derive(Debug, Default)]
pub struct Silent(Mutex<BTreeMap<SocketAddr, Instant>>);

impl Silent {
    /// In the order given, but for those that were silent a moment ago.
    fn order(&self, servers: &[SocketAddr], now: Instant) -> Vec<SocketAddr> {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|server, until| *until > now && servers.contains(server));
        let (last, first): (Vec<_>, Vec<_>) = servers.iter().partition(|server| silent.contains_key(server));
        first.into_iter().chain(last).collect()
    }

    fn note(&self, server: SocketAddr, answered: bool, now: Instant) {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            true => silent.remove(&server),
            false => silent.insert(server, now + DISTRUST),
        };
    }
}

/// The best answer there is; none where nobody gave any. Whoever let wait, so that another had to be asked or nobody answered, comes last for a
/// while.
pub async fn forward(question: &[u8], over: Transport, servers: &[SocketAddr], silent: &Silent) -> Option<Vec<u8>> {
    let mut best = None;
    let mut awaited = BTreeMap::new();
    // What was answered until then counts.
    let in_time = timeout(DEADLINE, collect(question, over, servers, silent, &mut awaited, &mut best)).await.is_ok();
    let now = Instant::now();
    for (server, since) in awaited {
        if !in_time || now >= since + PATIENCE {
            silent.note(server, false, now);
        }
    }
    best
}

/// Asks until there is an answer or nobody is left to ask; in `awaited` are those that were asked and said nothing yet, and since when.
async fn collect(
    question: &[u8],
    over: Transport,
    servers: &[SocketAddr],
    silent: &Silent,
    awaited: &mut BTreeMap<SocketAddr, Instant>,
    best: &mut Option<Vec<u8>>,
) {
    let mut waiting = silent.order(servers, Instant::now()).into_iter();
    let mut asked = FuturesUnordered::new();
    let ask = |server| async move { (server, exchange(server, question, over).await) };
    loop {
        if asked.is_empty() {
            let Some(server) = waiting.next() else { return };
            awaited.insert(server, Instant::now());
            asked.push(ask(server));
        }
        let (server, answered) = tokio::select! {
            Some(answered) = asked.next() => answered,
            () = sleep(PATIENCE), if waiting.len() > 0 => {
                if let Some(server) = waiting.next() {
                    awaited.insert(server, Instant::now());
                    asked.push(ask(server));
                }
                continue;
            }
        };
        awaited.remove(&server);
        match answered {
            Ok(answer) => {
                silent.note(server, true, Instant::now());
                let worth = message::worth(&answer);
                if worth == Worth::Answer || best.is_none() {
                    *best = Some(answer);
                }
                if worth == Worth::Answer {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!("asking name server {server}: {error}");
                silent.note(server, false, Instant::now());
            }
        }
    }
}

/// Under a number of our own, from a port of its own: what a third party could not know, it cannot answer.
async fn exchange(server: SocketAddr, question: &[u8], over: Transport) -> io::Result<Vec<u8>> {
    let unfit = || io::Error::new(io::ErrorKind::InvalidInput, "it is no question");
    let (asked, id) = (message::question(question).ok_or_else(unfit)?, message::id(question).ok_or_else(unfit)?);
    let own_id = number()?;
    let sent = message::with_id(question, own_id);
    let answer = match over {
        Transport::Udp => by_udp(server, &sent, own_id, asked).await?,
        Transport::Tcp => by_tcp(server, &sent, own_id, asked).await?,
    };
    Ok(message::with_id(&answer, id))
}

async fn by_udp(server: SocketAddr, sent: &[u8], id: u16, asked: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(server).await?;
    socket.send(sent).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What answers something else is somebody's guess, or late.
        if message::answers(&buffer[..length], id, asked) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(server: SocketAddr, sent: &[u8], id: u16, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write(&mut stream, sent).await?;
    let answer = read(&mut stream).await?;
    if message::answers(&answer, id, asked) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "it answers another question"))
    }
}

/// A message with its length before it (RFC 1035, 4.2.2).
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// The same the other way; in one piece, which most servers expect.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length =
        u16::try_from(message.len()).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a message of more than 65535 bytes"))?;
    stream.write_all(&[&length.to_be_bytes()[..], message].concat()).await
}

fn number() -> io::Result<u16> {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("there are no random numbers"))?;
    Ok(u16::from_be_bytes(bytes))
}
