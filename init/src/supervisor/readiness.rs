//! How init notices that a started service is ready.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use machine::service::Readiness;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Between two tries to connect.
const EVERY: Duration = Duration::from_millis(100);
/// A try to connect over TCP is given up after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longer notifications than sd_notify(3) knows any use for are cut off.
const DATAGRAM_BYTES: usize = 4096;

/// What is watched.
#[derive(Debug)]
pub enum Watch {
    Notify(UnixDatagram),
    Probe(Probe),
}

/// Where a service's socket accepts connections.
#[derive(Debug)]
pub struct Probe {
    target: Target,
    /// A connection under way, and when to give it up.
    pub attempt: Option<OwnedFd>,
    /// When to try next, or to give up.
    pub at: Duration,
}

#[derive(Debug)]
enum Target {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Prepares the watch for a service that is about to be started; `None` where it is ready as soon as it runs.
pub fn watch(readiness: &Readiness, notify_socket: &Path, owner: u32, now: Duration) -> io::Result<Option<Watch>> {
    let probe = |target| Some(Watch::Probe(Probe { target, attempt: None, at: now + EVERY }));
    Ok(match readiness {
        Readiness::Started => None,
        Readiness::Notify => Some(Watch::Notify(listen(notify_socket, owner)?)),
        Readiness::UnixSocket(path) => probe(Target::Unix(path.clone())),
        Readiness::Tcp(address) => probe(Target::Tcp(*address)),
    })
}

fn listen(path: &Path, owner: u32) -> io::Result<UnixDatagram> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    chown(path, Some(owner), Some(owner))?;
    Ok(socket)
}

/// Reads what has come; whether `READY=1` was in it.
pub fn notified(socket: &UnixDatagram) -> bool {
    let mut buffer = [0; DATAGRAM_BYTES];
    let mut ready = false;
    // Bounded: a service that floods its socket is read again in the next turn.
    for _ in 0..16 {
        match socket.recv(&mut buffer) {
            Ok(length) => ready |= buffer.get(..length).unwrap_or_default().split(|byte| *byte == b'\n').any(|line| line == b"READY=1"),
            Err(_) => break,
        }
    }
    ready
}

impl Probe {
    /// Its time has come: tries to connect, or gives up a try. Whether a connection was accepted.
    pub fn fire(&mut self, now: Duration) -> bool {
        if self.attempt.take().is_some() {
            self.at = now + EVERY;
            return false;
        }
        match self.connect() {
            Ok(None) => return true,
            Ok(Some(attempt)) => {
                self.attempt = Some(attempt);
                self.at = now + PATIENCE;
            }
            Err(_) => self.at = now + EVERY,
        }
        false
    }

    /// A connection under way has come to an end. Whether it was accepted.
    pub fn finish(&mut self, now: Duration) -> bool {
        let accepted = self.attempt.take().is_some_and(|socket| matches!(sockopt::socket_error(&socket), Ok(Ok(()))));
        self.at = now + EVERY;
        accepted
    }

    /// `Some` where the answer is still to come.
    fn connect(&self) -> io::Result<Option<OwnedFd>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, result) = match &self.target {
            Target::Unix(path) => {
                let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                let result = rustix::net::connect(&socket, &SocketAddrUnix::new(path)?);
                (socket, result)
            }
            Target::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
                let result = rustix::net::connect(&socket, address);
                (socket, result)
            }
        };
        match result {
            Ok(()) => Ok(None),
            Err(Errno::INPROGRESS) => Ok(Some(socket)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::unix::net::UnixListener;

    fn now() -> Duration {
        Duration::from_secs(1)
    }

    fn probe(readiness: Readiness) -> Probe {
        match watch(&readiness, Path::new("/"), 0, now()) {
            Ok(Some(Watch::Probe(probe))) => probe,
            other => panic!("expected a probe, got {other:?}"),
        }
    }

    #[test]
    fn ready_is_heard_among_other_notifications() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("notify/x.sock");
        let owner = rustix::process::geteuid().as_raw();
        let Ok(Some(Watch::Notify(socket))) = watch(&Readiness::Notify, &path, owner, now()) else { panic!("expected a socket") };
        let service = UnixDatagram::unbound().expect("socket");
        service.send_to(b"STATUS=READY=1\n", &path).expect("send");
        assert!(!notified(&socket));
        service.send_to(b"MAINPID=7\nREADY=1\nSTATUS=up", &path).expect("send");
        assert!(notified(&socket));
        assert!(!notified(&socket), "it was read");
    }

    #[test]
    fn unix_socket_is_ready_once_somebody_listens() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("x.sock");
        let mut probe = probe(Readiness::UnixSocket(path.clone()));
        assert!(!probe.fire(now()), "nothing is there");
        let _listener = UnixListener::bind(path).expect("bind");
        assert!(probe.fire(now()));
    }

    #[test]
    fn tcp_port_is_ready_once_somebody_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let mut ready = probe(Readiness::Tcp(address));
        assert!(connects(&mut ready));
        drop(listener);
        assert!(!connects(&mut probe(Readiness::Tcp(address))), "nobody listens any more");
    }

    fn connects(probe: &mut Probe) -> bool {
        if probe.fire(now()) {
            return true;
        }
        let Some(attempt) = &probe.attempt else { return false };
        let mut wait = [rustix::event::PollFd::new(attempt, rustix::event::PollFlags::OUT)];
        rustix::event::poll(&mut wait, None).expect("poll");
        probe.finish(now())
    }
}
