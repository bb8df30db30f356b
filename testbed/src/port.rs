//! Ports of the host for QEMU to forward from.

use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// A TCP port on 127.0.0.1 that nobody listens on now.
pub fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::NoPort)?;
    Ok(listener.local_addr().map_err(Error::NoPort)?.port())
}
