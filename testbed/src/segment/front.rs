//! A port of the host that leads to whichever of several others answers: one address for API servers of which some may be away.
//!
//! QEMU takes connections to a forwarded port whether or not the guest does, so a server counts as there once it has said something: what the
//! client says first is kept until then, and said again to the next.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a client may take to say something, and the last of the servers to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a server may take while there is another one to try: emulated ones are slow.
const IMPATIENCE: Duration = Duration::from_secs(5);
/// The header of a TLS record (RFC 8446, 5.1): type, version, length.
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;

/// Ports of 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Front {
    pub port: u16,
    pub leads_to: Vec<u16>,
}

#[derive(Debug)]
pub struct OpenFront {
    pub port: u16,
    /// The one that answered last comes first.
    servers: Arc<Mutex<Vec<u16>>>,
}

impl OpenFront {
    /// Listens until the process ends.
    pub fn open(front: &Front) -> io::Result<OpenFront> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, front.port))?;
        let open = OpenFront { port: front.port, servers: Arc::new(Mutex::new(front.leads_to.clone())) };
        let servers = Arc::clone(&open.servers);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let servers = Arc::clone(&servers);
                thread::spawn(move || {
                    // A client that nobody answers sees its connection end.
                    let _ = lead(client, &servers);
                });
            }
        });
        Ok(open)
    }

    pub fn lead_to(&self, ports: &[u16]) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|port| ports.contains(port));
        let new: Vec<u16> = ports.iter().copied().filter(|port| !servers.contains(port)).collect();
        servers.extend(new);
    }
}

fn lead(mut client: TcpStream, servers: &Mutex<Vec<u16>>) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let said = first_words(&mut client)?;
    let ports = servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (place, port) in ports.iter().enumerate() {
        let patience = if place + 1 == ports.len() { PATIENCE } else { IMPATIENCE };
        let Ok((server, answer)) = ask(*port, &said, patience) else { continue };
        let mut servers = servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = servers.iter().position(|known| known == port) {
            servers[..=place].rotate_right(1);
        }
        drop(servers);
        client.write_all(&answer)?;
        return join(client, server);
    }
    Ok(())
}

/// The client's first record of TLS as a whole, or what else it says first.
fn first_words(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = client.read(&mut buffer)?;
        said.extend_from_slice(&buffer[..read]);
        let whole = match said.first_chunk::<RECORD_HEADER>() {
            Some([HANDSHAKE, _, _, high, low]) => RECORD_HEADER + usize::from(u16::from_be_bytes([*high, *low])),
            _ => 1,
        };
        if read == 0 || said.len() >= whole {
            return Ok(said);
        }
    }
}

fn ask(port: u16, said: &[u8], patience: Duration) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut server = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    server.set_read_timeout(Some(patience))?;
    server.write_all(said)?;
    let mut answer = vec![0; 16_384];
    match server.read(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        length => Ok((server, answer[..length].to_vec())),
    }
}

/// Carries what both say until both have ended.
fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for stream in [&client, &server] {
        stream.set_read_timeout(None)?;
        stream.set_nodelay(true)?;
    }
    let back = (server.try_clone()?, client.try_clone()?);
    let backwards = thread::spawn(move || carry(&back.0, &back.1));
    carry(&client, &server);
    let _ = backwards.join();
    Ok(())
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::free_port;

    /// Answers each client's first words with its own name in front of them.
    fn server(name: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = client.read(&mut buffer) {
                    let _ = client.write_all(format!("{name}:{}", String::from_utf8_lossy(&buffer[..length])).as_bytes());
                }
            }
        });
        port
    }

    /// Takes connections and ends them, as QEMU does for a guest that is not there.
    fn absent() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        thread::spawn(move || listener.incoming().flatten().for_each(drop));
        port
    }

    fn says(port: u16, words: &[&str]) -> Vec<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        let mut heard = Vec::new();
        for word in words {
            stream.write_all(word.as_bytes()).expect("write");
            let mut buffer = [0; 64];
            let length = stream.read(&mut buffer).unwrap_or_default();
            heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        heard
    }

    #[test]
    fn a_server_that_is_away_is_passed_over() {
        let (closed, absent, there) = (free_port().expect("port"), absent(), server("a"));
        let front = Front { port: free_port().expect("port"), leads_to: vec![closed, absent, there] };
        let open = OpenFront::open(&front).expect("open");
        assert_eq!(says(front.port, &["one", "two"]), ["a:one", "a:two"]);
        assert_eq!(open.servers.lock().expect("lock")[0], there, "who answered is asked first");
        open.lead_to(&[absent]);
        assert_eq!(says(front.port, &["one"]), [""]);
        open.lead_to(&[absent, server("b")]);
        assert_eq!(says(front.port, &["one"]), ["b:one"]);
    }

    #[test]
    fn a_record_in_pieces_is_waited_for() {
        let front = Front { port: free_port().expect("port"), leads_to: vec![server("a")] };
        let _open = OpenFront::open(&front).expect("open");
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, front.port)).expect("connect");
        stream.set_nodelay(true).expect("no delay");
        stream.write_all(&[HANDSHAKE, 3, 1, 0, 4, b'h']).expect("write");
        stream.write_all(b"ell").expect("write");
        let mut heard = Vec::new();
        stream.shutdown(Shutdown::Write).expect("shutdown");
        stream.read_to_end(&mut heard).expect("read");
        assert!(heard.starts_with(b"a:") && heard.ends_with(b"hell"), "{heard:?}");
    }
}
