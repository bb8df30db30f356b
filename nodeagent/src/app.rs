//! The composition root: everything that the agent does is named here, once.

use machine::Root;

use crate::init_client::InitClient;
use crate::node::Node;

pub async fn run(root: Root) -> anyhow::Result<()> {
    let node = Node::new(root.clone(), InitClient::new(root.init_socket()));
    let _ = node;
    Ok(())
}
