//! Sources as a machine in maintenance asks them: against local servers that speak the clouds' documented protocols.

mod asking;
mod clouds;
mod instances;
mod looking;
mod server;

use std::time::Duration;

use machine::Root;
use machine::disk::Volume;
use machine::protocol::{VolumeState, VolumeStatus};

use super::ask::Outside;
use super::fetch::Deadlines;
use crate::init_client::InitClient;
use crate::node::Node;
use server::Server;

/// A machine in maintenance, with STATE open and no block device.
struct Machine {
    _directory: tempfile::TempDir,
    node: Node,
}

impl Machine {
    fn new() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        std::fs::create_dir_all(root.path("/dev")).unwrap();
        std::fs::write(root.path("/dev/console"), "").unwrap();
        let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
        let machine = Machine { _directory: directory, node };
        machine.state(VolumeState::Open);
        machine
    }

    fn state(&self, state: VolumeState) {
        self.node.store.put("state", &VolumeStatus { volume: Volume::State, state, size_bytes: 1, device: String::new() });
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.node.root.path("/dev/console")).unwrap()
    }
}

/// The world with its metadata service at this server. Deadlines are far longer than a local answer takes, and shorter than a test may.
fn outside(server: &Server) -> Outside {
    let deadlines = Deadlines { connect: Duration::from_secs(5), whole: Duration::from_secs(10) };
    Outside { metadata: server.address, deadlines, waits: (Duration::from_millis(5), Duration::from_millis(20)) }
}
