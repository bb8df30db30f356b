//! The switch's end of one machine's link.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use super::plan::Port;
use super::{NIC_SOCKET, SWITCH_SOCKET};
use crate::{Error, socket};

/// As many frames wait for a machine that does not take them; further ones are lost, as in any switch.
const QUEUE: usize = 1024;
/// More than any frame: QEMU's largest datagram.
const FRAME_BYTES: usize = 69_632;

#[derive(Debug)]
pub struct OpenPort {
    pub port: Port,
    socket: UnixDatagram,
    waiting: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    pub counts: Counts,
}

/// Frames of one port since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub received: u64,
    pub sent: u64,
    pub lost: u64,
}

impl OpenPort {
    pub fn open(port: Port) -> Result<OpenPort, Error> {
        let path = port.directory.join(SWITCH_SOCKET);
        std::fs::create_dir_all(&port.directory).map_err(Error::file("make directory", &port.directory))?;
        let socket = socket::bind_datagram(&port.directory, SWITCH_SOCKET).map_err(Error::file("bind", &path))?;
        socket.set_nonblocking(true).map_err(Error::file("bind", &path))?;
        Ok(OpenPort { port, socket, waiting: VecDeque::new(), buffer: vec![0; FRAME_BYTES], counts: Counts::default() })
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether frames wait for the machine to take them.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next frame that the machine sent, if there is one.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let length = self.socket.recv(&mut self.buffer).ok()?;
        self.counts.received += 1;
        Some(self.buffer[..length].to_vec())
    }

    pub fn send(&mut self, frame: Vec<u8>) {
        if self.waiting.len() == QUEUE {
            self.counts.lost += 1;
            return;
        }
        self.waiting.push_back(frame);
        self.push();
    }

    /// Hands over what waits, as far as the machine takes it. What is for a machine that is off is lost.
    pub fn push(&mut self) {
        while let Some(frame) = self.waiting.front() {
            match self.hand_over(frame) {
                Ok(_) => self.counts.sent += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.counts.lost += 1,
            }
            self.waiting.pop_front();
        }
    }

    /// Connected again wherever the machine's end is a new one: its QEMU was started anew.
    fn hand_over(&self, frame: &[u8]) -> io::Result<usize> {
        self.socket.send(frame).or_else(|error| match error.kind() {
            io::ErrorKind::NotConnected | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                socket::connect_datagram(&self.socket, &self.port.directory, NIC_SOCKET)?;
                self.socket.send(frame)
            }
            _ => Err(error),
        })
    }
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.port.directory.join(SWITCH_SOCKET));
    }
}
