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
    /// Takes the machine's frames. It is connected to nobody: to a connected one, only its peer may send, and each start of QEMU is another.
    inward: UnixDatagram,
    /// Hands frames to the machine. It is connected, so that poll(2) tells when the machine takes more.
    outward: UnixDatagram,
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
        let sockets = || {
            let (inward, outward) = (socket::bind_datagram(&port.directory, SWITCH_SOCKET)?, UnixDatagram::unbound()?);
            inward.set_nonblocking(true)?;
            outward.set_nonblocking(true)?;
            Ok((inward, outward))
        };
        let (inward, outward) = sockets().map_err(Error::file("bind", &path))?;
        Ok(OpenPort { port, inward, outward, waiting: VecDeque::new(), buffer: vec![0; FRAME_BYTES], counts: Counts::default() })
    }

    /// Readable when the machine has sent something.
    pub fn inward(&self) -> BorrowedFd<'_> {
        self.inward.as_fd()
    }

    /// Writable when the machine takes more; none while nothing waits for it.
    pub fn outward(&self) -> Option<BorrowedFd<'_>> {
        (!self.waiting.is_empty()).then(|| self.outward.as_fd())
    }

    /// The next frame that the machine sent, if there is one.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let length = self.inward.recv(&mut self.buffer).ok()?;
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
        self.outward.send(frame).or_else(|error| match error.kind() {
            io::ErrorKind::NotConnected | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                socket::connect_datagram(&self.outward, &self.port.directory, NIC_SOCKET)?;
                self.outward.send(frame)
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
