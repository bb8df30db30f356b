//! The switch: frames in, addresses learnt, frames out, each as late as its link says.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::control::{self, Answer, PortStatus, Request, SOCKET, Status};
use super::fate::{Fate, decide};
use super::front::{Front, OpenFront};
use super::plan::{Plan, Port};
use super::port::OpenPort;
use crate::dice::Dice;
use crate::{Error, socket};

/// As many frames are taken from one port before the others have their turn.
const TURN: usize = 64;
type Address = [u8; 6];

#[derive(Debug)]
pub struct Switch {
    directory: PathBuf,
    control: UnixListener,
    plan: Plan,
    ports: Vec<OpenPort>,
    /// The port behind which an Ethernet address was seen last.
    learnt: HashMap<Address, usize>,
    late: BinaryHeap<Reverse<Late>>,
    front: Option<OpenFront>,
    dice: Dice,
    frames: u64,
}

/// A frame on a slow link. Those that are due at one instant arrive in the order in which they were sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Late {
    due: Instant,
    number: u64,
    to: usize,
    frame: Vec<u8>,
}

impl Switch {
    pub fn open(directory: &Path) -> Result<Switch, Error> {
        let plan = Plan::load(directory)?;
        let path = directory.join(SOCKET);
        let control = socket::bind(directory, SOCKET).map_err(Error::file("bind", &path))?;
        control.set_nonblocking(true).map_err(Error::file("bind", &path))?;
        let ports = plan.ports.iter().cloned().map(OpenPort::open).collect::<Result<_, _>>()?;
        let dice = Dice::new(plan.seed);
        let (learnt, late) = (HashMap::new(), BinaryHeap::new());
        let front = plan.front.as_ref().map(open_front).transpose()?;
        Ok(Switch { directory: directory.to_owned(), control, plan, ports, learnt, late, front, dice, frames: 0 })
    }

    /// Until it is told to stop.
    pub fn run(mut self) {
        loop {
            let (asked, readable) = self.wait();
            if asked && self.answer() == Some(Request::Stop) {
                let _ = fs::remove_file(self.directory.join(SOCKET));
                return;
            }
            self.deliver_late();
            for from in readable {
                for _ in 0..TURN {
                    let Some(frame) = self.ports.get_mut(from).and_then(OpenPort::receive) else { break };
                    self.forward(from, &frame);
                }
            }
            self.ports.iter_mut().for_each(OpenPort::push);
        }
    }

    /// Until there is something to do: whether somebody asks, and from which ports frames can be had.
    fn wait(&self) -> (bool, Vec<usize>) {
        let left = self.late.peek().map(|Reverse(next)| next.due.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() });
        let mut set = vec![PollFd::from_borrowed_fd(self.control.as_fd(), PollFlags::IN)];
        set.extend(self.ports.iter().map(|port| PollFd::from_borrowed_fd(port.inward(), PollFlags::IN)));
        set.extend(self.ports.iter().filter_map(OpenPort::outward).map(|outward| PollFd::from_borrowed_fd(outward, PollFlags::OUT)));
        // An interrupted wait is one that found nothing.
        let _ = poll(&mut set, left.as_ref());
        let ready = |descriptor: &PollFd<'_>| descriptor.revents().contains(PollFlags::IN);
        let ports = set[1..=self.ports.len()].iter().enumerate().filter(|(_, descriptor)| ready(descriptor)).map(|(n, _)| n).collect();
        (ready(&set[0]), ports)
    }

    fn forward(&mut self, from: usize, frame: &[u8]) {
        let (Some(destination), Some(source)) = (frame.first_chunk::<6>(), frame.get(6..12).and_then(|bytes| bytes.first_chunk::<6>()))
        else {
            return;
        };
        if !is_group(source) {
            self.learnt.insert(*source, from);
        }
        let known = self.learnt.get(destination).copied().filter(|_| !is_group(destination));
        let everybody = 0..self.ports.len();
        for to in everybody.filter(|to| *to != from && known.is_none_or(|known| known == *to)) {
            match decide(&self.plan.links, &self.ports[from].port.name, &self.ports[to].port.name, frame, &mut self.dice) {
                Fate::Lost => self.ports[to].counts.lost += 1,
                Fate::Arrives { after: Duration::ZERO } => self.ports[to].send(frame.to_vec()),
                Fate::Arrives { after } => {
                    self.frames += 1;
                    self.late.push(Reverse(Late { due: Instant::now() + after, number: self.frames, to, frame: frame.to_vec() }));
                }
            }
        }
    }

    fn deliver_late(&mut self) {
        let now = Instant::now();
        while self.late.peek().is_some_and(|Reverse(next)| next.due <= now) {
            let Some(Reverse(late)) = self.late.pop() else { return };
            if let Some(port) = self.ports.get_mut(late.to) {
                port.send(late.frame);
            }
        }
    }

    fn answer(&mut self) -> Option<Request> {
        let listener = self.control.try_clone().ok()?;
        control::answer(&listener, |request| self.carry_out(request)).ok()
    }

    fn carry_out(&mut self, request: Request) -> Answer {
        if request == Request::Reload {
            self.reload().map_err(|error| error.to_string())?;
        }
        let status = |open: &OpenPort| PortStatus {
            name: open.port.name.clone(),
            received: open.counts.received,
            sent: open.counts.sent,
            lost: open.counts.lost,
        };
        Ok(Status { ports: self.ports.iter().map(status).collect() })
    }

    /// Ports that stay keep their sockets and what waits in them.
    fn reload(&mut self) -> Result<(), Error> {
        let plan = Plan::load(&self.directory)?;
        let is_new = |port: &&Port| self.ports.iter().all(|open| open.port != **port);
        // First what may not succeed: until then nothing has changed.
        let mut ports = plan.ports.iter().filter(is_new).cloned().map(OpenPort::open).collect::<Result<Vec<_>, _>>()?;
        match (&plan.front, &self.front) {
            (Some(front), Some(open)) if open.port == front.port => open.lead_to(&front.leads_to),
            (Some(front), _) => self.front = Some(open_front(front)?),
            // It goes on listening, and leads nowhere.
            (None, open) => open.iter().for_each(|open| open.lead_to(&[])),
        }
        if plan.seed != self.plan.seed {
            self.dice = Dice::new(plan.seed);
        }
        // Ports are known by their places, which have changed.
        self.learnt.clear();
        self.late.clear();
        ports.extend(self.ports.drain(..).filter(|open| plan.ports.contains(&open.port)));
        ports.sort_by_key(|open| plan.ports.iter().position(|port| *port == open.port));
        self.ports = ports;
        self.plan = plan;
        Ok(())
    }
}

fn open_front(front: &Front) -> Result<OpenFront, Error> {
    OpenFront::open(front).map_err(Error::file("listen at", format!("127.0.0.1:{}", front.port)))
}

/// Broadcast and multicast: IEEE 802, the first bit on the wire.
fn is_group(address: &Address) -> bool {
    address[0] & 1 == 1
}
