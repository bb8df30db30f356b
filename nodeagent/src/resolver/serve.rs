//! The sockets: who may ask, how many at a time, and for how long.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{self, Judgement};
use super::forward::{self, Silent, Transport, forward};
use super::message;
use super::view::View;

/// Questions that are being passed on at a time; what comes beyond is asked again by whoever asked.
const QUESTIONS: usize = 512;
const CONNECTIONS: usize = 64;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Resolver {
    views: watch::Receiver<Arc<View>>,
    silent: Silent,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Resolver {
    pub fn new(views: watch::Receiver<Arc<View>>) -> Resolver {
        let (questions, connections) = (Arc::new(Semaphore::new(QUESTIONS)), Arc::new(Semaphore::new(CONNECTIONS)));
        Resolver { views, silent: Silent::default(), questions, connections }
    }

    fn view(&self) -> Arc<View> {
        self.views.borrow().clone()
    }

    /// None where nothing is to be said.
    async fn answer(&self, question: &[u8], over: Transport) -> Option<Vec<u8>> {
        let view = self.view();
        let longest = match answer::judge(question, &view.machines) {
            Judgement::Ignore => return None,
            Judgement::Answer(response) => return response.to_vec().ok(),
            Judgement::PassOn { longest } => longest,
        };
        match forward(question, over, &view.servers, &self.silent).await {
            Some(answer) if over == Transport::Tcp || answer.len() <= longest || message::is_truncated(&answer) => Some(answer),
            // More than its asker can take.
            Some(_) => answer::refusal(question, ResponseCode::NoError, true),
            None => answer::refusal(question, ResponseCode::ServFail, false),
        }
    }
}

/// Until one of the sockets fails; the reason.
pub async fn serve(resolver: Arc<Resolver>, sockets: Vec<(UdpSocket, TcpListener)>) -> io::Error {
    // They end with this.
    let mut serving = JoinSet::new();
    for (udp, tcp) in sockets {
        serving.spawn(datagrams(resolver.clone(), Arc::new(udp)));
        serving.spawn(connections(resolver.clone(), tcp));
    }
    match serving.join_next().await {
        Some(Ok(error)) => error,
        Some(Err(error)) => io::Error::other(error),
        None => io::Error::other("it has no socket"),
    }
}

async fn datagrams(resolver: Arc<Resolver>, socket: Arc<UdpSocket>) -> io::Error {
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        while answering.try_join_next().is_some() {}
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => return error,
        };
        let Some(permit) = may_ask(&resolver, from).then(|| resolver.questions.clone().try_acquire_owned().ok()).flatten() else {
            continue;
        };
        let (resolver, socket, question) = (resolver.clone(), socket.clone(), buffer[..length].to_vec());
        answering.spawn(async move {
            if let Some(answer) = resolver.answer(&question, Transport::Udp).await {
                // Whoever has gone asks no more.
                let _ = socket.send_to(&answer, from).await;
            }
            drop(permit);
        });
    }
}

async fn connections(resolver: Arc<Resolver>, listener: TcpListener) -> io::Error {
    let mut answering = JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        // Those that wait for a place wait in the kernel.
        let Ok(permit) = resolver.connections.clone().acquire_owned().await else { return io::Error::other("it is closed") };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        if may_ask(&resolver, from) {
            let resolver = resolver.clone();
            answering.spawn(async move {
                // One that breaks off, or says nothing for long, has had its answers.
                let _ = connection(&resolver, stream).await;
                drop(permit);
            });
        }
    }
}

async fn connection(resolver: &Resolver, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let question = timeout(IDLE, forward::read(&mut stream)).await??;
        let Some(answer) = resolver.answer(&question, Transport::Tcp).await else { return Ok(()) };
        timeout(IDLE, forward::write(&mut stream, &answer)).await??;
    }
}

fn may_ask(resolver: &Resolver, from: SocketAddr) -> bool {
    resolver.views.borrow().may_ask(from.ip())
}
