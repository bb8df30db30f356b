//! The API servers that answer, and who is connected to which.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Shared by the health checks, which write it, and the proxy, which reads it.
#[derive(Debug, Default)]
pub struct Pool {
    servers: Mutex<BTreeMap<SocketAddr, Server>>,
}

#[derive(Debug)]
struct Server {
    local: bool,
    connections: usize,
    /// Closed when the server is taken out: its connections end with it.
    up: watch::Sender<()>,
}

/// A server that a connection goes to; it counts until it is dropped.
#[derive(Debug)]
pub struct Choice<'a> {
    pool: &'a Pool,
    pub address: SocketAddr,
    up: watch::Receiver<()>,
}

impl Pool {
    pub fn add(&self, address: SocketAddr, local: bool) {
        self.lock().entry(address).or_insert_with(|| Server { local, connections: 0, up: watch::Sender::new(()) });
    }

    pub fn remove(&self, address: SocketAddr) {
        self.lock().remove(&address);
    }

    /// Whether there is another server than this one.
    pub fn has_other(&self, address: SocketAddr) -> bool {
        self.lock().keys().any(|other| *other != address)
    }

    /// This machine's own server, else the one with the fewest connections; `tried` are left out.
    pub fn choose(&self, tried: &[SocketAddr]) -> Option<Choice<'_>> {
        let mut servers = self.lock();
        let open = servers.iter_mut().filter(|(address, _)| !tried.contains(address));
        let (address, server) = open.min_by_key(|(_, server)| (!server.local, server.connections))?;
        server.connections += 1;
        Some(Choice { pool: self, address: *address, up: server.up.subscribe() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Choice<'_> {
    /// Ends when the server is taken out.
    pub async fn gone(&mut self) {
        while self.up.changed().await.is_ok() {}
    }
}

impl Drop for Choice<'_> {
    fn drop(&mut self) {
        if let Some(server) = self.pool.lock().get_mut(&self.address) {
            server.connections = server.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 6443))
    }

    #[test]
    fn its_own_first_then_the_least_used() {
        let pool = Pool::default();
        assert!(pool.choose(&[]).is_none());
        pool.add(address(1), false);
        pool.add(address(2), false);
        let first = pool.choose(&[]).unwrap();
        let second = pool.choose(&[]).unwrap();
        assert_ne!(first.address, second.address);
        drop(first);
        assert_ne!(pool.choose(&[]).unwrap().address, second.address);
        pool.add(address(9), true);
        assert_eq!(pool.choose(&[]).unwrap().address, address(9));
        assert_eq!(pool.choose(&[]).unwrap().address, address(9));
        assert_ne!(pool.choose(&[address(9)]).unwrap().address, address(9));
    }

    #[tokio::test]
    async fn connections_learn_that_their_server_is_gone() {
        let pool = Pool::default();
        pool.add(address(1), false);
        let mut choice = pool.choose(&[]).unwrap();
        pool.add(address(1), false);
        let still_up = tokio::time::timeout(std::time::Duration::from_millis(10), choice.gone()).await;
        assert!(still_up.is_err());
        pool.remove(address(1));
        choice.gone().await;
    }
}
