//! What a pod receives and sends: the counters of the interfaces in its network namespace, which is found by a process of the pod's sandbox. The
//! file stays open, and is of that namespace whatever becomes of the process.

use std::fmt;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::{pread, retry_on_intr};

use crate::group::Group;
use crate::node::Interface;
use crate::node::devices::interfaces;

/// Interfaces of one pod that are told of. A pod has one, or one for each network that it is in; one that may make interfaces of its own must not
/// grow the collector by them.
pub const MOST_INTERFACES: usize = 8;

/// After how many sweeps a sandbox without a process, or one in the machine's own network, is looked at again: twice as many each time, up to this.
/// The runtime puts a process into the cgroup before it puts it into the pod's network.
const LAST_WAIT: u16 = 32;

/// An interface of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodInterface {
    /// The sandbox: where it is among the snapshot's groups.
    pub group: usize,
    pub interface: Interface,
}

type Says = dyn Fn(&str) -> Option<bool> + Send;

/// Says whether the container of an id is a pod's sandbox, once that is known.
pub struct Sandboxes(pub Box<Says>);

impl Default for Sandboxes {
    fn default() -> Sandboxes {
        Sandboxes(Box::new(|_| None))
    }
}

impl fmt::Debug for Sandboxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sandboxes")
    }
}

/// A container's way to its pod's network.
#[derive(Debug)]
pub enum Network {
    /// Not known yet to be a sandbox, or one that is in no network of its own, whose counters would be the machine's.
    Sought {
        sweeps_left: u16,
        wait: u16,
    },
    /// No sandbox.
    None,
    Open(OwnedFd),
}

impl Default for Network {
    fn default() -> Network {
        Network::Sought { sweeps_left: 0, wait: 1 }
    }
}

impl Network {
    /// Reads the counters of the namespace, where there is one of the pod's own. `host` is the machine's (its inode).
    pub fn sweep(
        &mut self,
        group: &Group,
        id: &str,
        (sandboxes, proc, host): (&Sandboxes, &OwnedFd, Option<u64>),
        buffer: &mut [u8],
        mut found: impl FnMut(Interface),
    ) {
        match self {
            Network::None => return,
            Network::Open(_) => {}
            Network::Sought { sweeps_left: 0, wait } => match (sandboxes.0)(id) {
                None => return,
                Some(false) => *self = Network::None,
                Some(true) => match opened(group, proc, host, buffer) {
                    Some(file) => *self = Network::Open(file),
                    None => *self = Network::Sought { sweeps_left: *wait, wait: (*wait * 2).min(LAST_WAIT) },
                },
            },
            Network::Sought { sweeps_left, .. } => *sweeps_left -= 1,
        }
        let Network::Open(file) = self else { return };
        let Ok(length) = retry_on_intr(|| pread(&*file, &mut *buffer, 0)) else { return };
        // What does not fit ends within a line.
        let whole = buffer[..length].iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        interfaces(&buffer[..whole]).filter(|interface| interface.name.as_str() != "lo").take(MOST_INTERFACES).for_each(&mut found);
    }
}

/// By the first process of the cgroup. That it is there still after its directory was opened, and the file by way of that directory last, makes it
/// the cgroup's own: a number that another process came to has another directory.
fn opened(group: &Group, proc: &OwnedFd, host: Option<u64>, buffer: &mut [u8]) -> Option<OwnedFd> {
    let process = group.processes(buffer).next()?;
    let flags = OFlags::CLOEXEC;
    let directory = openat(proc, format!("{process}"), flags | OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let namespace = statat(&directory, "ns/net", AtFlags::empty()).ok()?.st_ino;
    if Some(namespace) == host || !group.processes(buffer).any(|other| other == process) {
        return None;
    }
    openat(&directory, "net/dev", flags | OFlags::RDONLY, Mode::empty()).ok()
}

/// The inode of the network namespace that this program is in.
pub fn own_namespace(proc: &OwnedFd) -> Option<u64> {
    statat(proc, "self/ns/net", AtFlags::empty()).ok().map(|status| status.st_ino)
}
