//! What most controllers need to know of the machine before they can decide anything: its config, its name and its addresses.

use std::sync::Arc;

use controlplane::Facts;
use machine::config::{Config, Role};
use machine::version::Minor;

use crate::node::Node;
use crate::plan::Missing;
use crate::resources::authorities::HeldKey;
use crate::resources::network::{Hostname, NodeIps};
use crate::store::Resource;

/// A configured machine that knows who it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub config: Arc<Config>,
    pub facts: Facts,
}

impl Machine {
    /// From the board; what is missing otherwise.
    pub fn observe(node: &Node) -> Result<Machine, Vec<Missing>> {
        // Keys that come later come with a change on the board.
        node.store.list(HeldKey::KIND);
        let config = node.joined_config();
        let hostname = node.store.get::<Hostname>(Hostname::NAME).map(|name| name.hostname).filter(|name| !name.is_empty());
        let node_ips = node.store.get::<NodeIps>(NodeIps::NAME).map(|ips| ips.addresses).filter(|ips| !ips.is_empty());
        match (config, hostname, node_ips) {
            (Some(config), Some(node_name), Some(node_ips)) => {
                Ok(Machine { config, facts: Facts { root: node.root.clone(), node_name, node_ips, emulated: None } })
            }
            (config, hostname, node_ips) => {
                Err(missing([(config.is_some(), "machine config"), (hostname.is_some(), "hostname"), (node_ips.is_some(), "node IP")]))
            }
        }
    }

    /// The same with Kubernetes parts that behave as another version.
    pub fn emulating(mut self, version: Option<Minor>) -> Machine {
        self.facts.emulated = version;
        self
    }

    pub fn is_control_plane(&self) -> bool {
        self.config.machine.role == Role::ControlPlane
    }
}

/// The nouns of those that are not there.
pub fn missing<const N: usize>(needs: [(bool, &str); N]) -> Vec<Missing> {
    needs.into_iter().filter(|(there, _)| !there).map(|(_, noun)| Missing::new(noun)).collect()
}
