//! An Ethernet segment between machines: a learning switch in user space, over unix sockets, whose links can be slow, lossy or cut.
//!
//! Each machine's QEMU and the switch exchange frames as datagrams through two sockets in the machine's directory, so that either may end
//! and come back without the other. What the switch is to do stands in a file of its own directory ([`Plan`]); a request to its control
//! socket has it read the file anew, and is answered once that is in force.

mod control;
mod fate;
mod front;
mod plan;
mod port;
mod switch;

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

pub use control::Status;
pub use front::Front;
pub use plan::{ANY, Link, Plan, Port};

use crate::Error;
use control::Request;
use switch::Switch;

/// The machine's end of its link, which QEMU makes, or another station.
pub const NIC_SOCKET: &str = "link.sock";
/// The switch's end.
pub const SWITCH_SOCKET: &str = "switch.sock";

/// A segment whose switch runs in this process.
#[derive(Debug)]
pub struct Segment {
    directory: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Segment {
    /// Starts the switch; `directory` holds its plan and its control socket.
    pub fn start(directory: &Path, plan: &Plan) -> Result<Segment, Error> {
        plan.save(directory)?;
        let switch = Switch::open(directory)?;
        let thread = thread::spawn(move || switch.run());
        Ok(Segment { directory: directory.to_owned(), thread: Some(thread) })
    }

    /// Has the switch do as this plan says, and returns once it does.
    pub fn set(&self, plan: &Plan) -> Result<Status, Error> {
        set(&self.directory, plan)
    }

    pub fn status(&self) -> Result<Status, Error> {
        status(&self.directory)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // One that cannot be told, because its directory is gone, goes on until the process ends: nobody is to wait for it.
        if let (Ok(_), Some(thread)) = (control::ask(&self.directory, Request::Stop), self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Runs the switch of this directory until it is told to stop.
pub fn serve(directory: &Path) -> Result<(), Error> {
    Switch::open(directory).map(Switch::run)
}

/// Has the running switch of this directory do as the plan says, and returns once it does.
pub fn set(directory: &Path, plan: &Plan) -> Result<Status, Error> {
    plan.save(directory)?;
    control::ask(directory, Request::Reload)
}

/// What the running switch of this directory has carried so far.
pub fn status(directory: &Path) -> Result<Status, Error> {
    control::ask(directory, Request::Status)
}

/// Ends the running switch of this directory.
pub fn stop(directory: &Path) -> Result<(), Error> {
    control::ask(directory, Request::Stop).map(drop)
}

#[cfg(test)]
mod tests;
