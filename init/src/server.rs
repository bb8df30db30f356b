//! The socket that the agent speaks to init through. Only processes of init's own user may connect. A client that is slow or stalled costs
//! a bounded amount of memory and is dropped; it never holds init up.

mod client;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use machine::protocol::{Event, Request, Response};
use rustix::event::PollFlags;
use rustix::net::sockopt;

use client::Client;

/// The agent keeps two or three connections.
const MOST_CLIENTS: usize = 32;

/// A request that is still to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    client: u64,
    request: u64,
}

#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    clients: BTreeMap<u64, Client>,
    next: u64,
}

impl Server {
    pub fn listen(path: &Path) -> io::Result<Server> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Server { listener, clients: BTreeMap::new(), next: 0 })
    }

    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// What to wait on for each client.
    pub fn clients(&self) -> impl Iterator<Item = (u64, BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(|(id, client)| (*id, client.fd(), client.interest()))
    }

    /// Takes new connections.
    pub fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let own = rustix::process::geteuid();
            let allowed = sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid == own);
            if !allowed || self.clients.len() >= MOST_CLIENTS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.next += 1;
            self.clients.insert(self.next, Client::new(stream));
        }
    }

    /// Reads what a client has sent: whole requests, each with its ticket.
    pub fn read(&mut self, client: u64) -> Vec<(Ticket, Request)> {
        let Some(connection) = self.clients.get_mut(&client) else { return Vec::new() };
        let requests = connection.read();
        if connection.is_gone() {
            self.clients.remove(&client);
        }
        requests.into_iter().map(|(request, message)| (Ticket { client, request }, message)).collect()
    }

    /// Answers a request; of a client that is gone, nothing happens.
    pub fn answer(&mut self, ticket: Ticket, response: &Response) {
        if let Some(client) = self.clients.get_mut(&ticket.client) {
            client.answer(ticket.request, response);
        }
        self.write(ticket.client);
    }

    /// From now on the client gets events: these first.
    pub fn subscribe(&mut self, ticket: Ticket, first: &[Event]) {
        if let Some(client) = self.clients.get_mut(&ticket.client) {
            client.subscribe(ticket.request, first);
        }
        self.write(ticket.client);
    }

    /// Tells every subscriber.
    pub fn publish(&mut self, event: &Event) {
        let ids: Vec<u64> = self.clients.keys().copied().collect();
        for id in ids {
            if let Some(client) = self.clients.get_mut(&id) {
                client.publish(event);
            }
            self.write(id);
        }
    }

    /// Sends what a client has room for.
    pub fn write(&mut self, client: u64) {
        if let Some(connection) = self.clients.get_mut(&client) {
            connection.write();
            if connection.is_gone() {
                self.clients.remove(&client);
            }
        }
    }
}
