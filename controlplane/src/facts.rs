//! What the files of a control plane depend on besides the machine config.

use std::net::IpAddr;

use machine::Root;
use machine::version::Minor;

/// Found on the machine, not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Every path in files and arguments lies under it.
    pub root: Root,
    /// Name of the Kubernetes node, which is the host's name as well.
    pub node_name: String,
    /// Addresses that other nodes reach this one by; the first is the one it is known by. At least one.
    pub node_ips: Vec<IpAddr>,
    /// What the Kubernetes parts behave as, where that is not what they are: an image on trial does nothing that the one before could not
    /// undo.
    pub emulated: Option<Minor>,
}
