//! The kernel's device events (netlink, NETLINK_KOBJECT_UEVENT): what appears and which module drives it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink, sockopt};

/// Events of the kernel itself, not of a udev.
const KERNEL_GROUP: u32 = 1;
/// Room for the events that a coldplug of a large machine causes in one go.
const RECEIVE_BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// What happened to a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`...
    pub action: String,
    pub subsystem: String,
    /// By which modprobe finds the module.
    pub modalias: Option<String>,
    /// Name under /dev.
    pub device: Option<String>,
}

/// Opens a socket that hears of every event from now on.
pub fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::KOBJECT_UEVENT))?;
    // Best effort: without CAP_NET_ADMIN the default remains.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES);
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP))?;
    Ok(socket)
}

/// The next event, or `None` when there is none yet. An overrun (ENOBUFS) is an error: events were lost.
pub fn receive(socket: &OwnedFd) -> io::Result<Option<Uevent>> {
    let mut buffer = [0; 16 * 1024];
    match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
        Ok((length, _)) => Ok(Some(parse(buffer.get(..length).unwrap_or_default()))),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// An event is `action@path` and `KEY=value` fields, each ended by a zero byte.
fn parse(message: &[u8]) -> Uevent {
    let mut event = Uevent::default();
    for field in message.split(|byte| *byte == 0).filter_map(|field| std::str::from_utf8(field).ok()) {
        match field.split_once('=') {
            Some(("ACTION", value)) => event.action = value.to_owned(),
            Some(("SUBSYSTEM", value)) => event.subsystem = value.to_owned(),
            Some(("MODALIAS", value)) => event.modalias = Some(value.to_owned()),
            Some(("DEVNAME", value)) => event.device = Some(value.to_owned()),
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_read() {
        let message = b"add@/devices/pci0/x\0ACTION=add\0SUBSYSTEM=pci\0MODALIAS=pci:v00001AF4d1000\0SEQNUM=7\0";
        let event = parse(message);
        assert_eq!((event.action.as_str(), event.subsystem.as_str()), ("add", "pci"));
        assert_eq!(event.modalias.as_deref(), Some("pci:v00001AF4d1000"));
        assert_eq!(event.device, None);
        assert_eq!(parse(b"\xff\0=\0"), Uevent::default());
    }
}
