//! Connections that can be cut, as a network or a reboot cuts them: without a word.

use std::sync::{Arc, Mutex};

use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

#[derive(Debug, Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<AbortHandle>>>);

impl Lines {
    /// The machine's end of a connection.
    pub fn through(&self, mut outside: TcpStream) -> DuplexStream {
        let (inside, mut between) = duplex(64 * 1024);
        let copying = tokio::spawn(async move { copy_bidirectional(&mut outside, &mut between).await });
        self.0.lock().expect("unpoisoned").push(copying.abort_handle());
        inside
    }

    pub fn cut(&self) {
        self.0.lock().expect("unpoisoned").drain(..).for_each(|line| line.abort());
    }
}
