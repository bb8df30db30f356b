//! Tells whoever sits at the machine where the machine API is, as long as the machine waits for its first config.

use std::net::IpAddr;

use machine::stage::Stage;

use crate::addresses::{endpoints, reachable};
use crate::node::Node;

/// Prints addresses and fingerprint, and again when the addresses change, until maintenance is over. Without an address nobody could call, so
/// the fingerprint, which callers wait for, is not shown before there is one.
pub async fn announce(node: Node, fingerprint: String) {
    let (mut board, mut stages) = (node.store.revision(), node.watch_stage());
    let mut told = String::new();
    while node.stage() == Stage::Maintenance {
        board.mark_unchanged();
        let line = line(&reachable(&node.store), &fingerprint);
        if told != line {
            node.console.print(&line);
            told = line;
        }
        tokio::select! {
            changed = board.changed() => if changed.is_err() { return },
            changed = stages.changed() => if changed.is_err() { return },
        }
    }
}

fn line(addresses: &[IpAddr], fingerprint: &str) -> String {
    if addresses.is_empty() {
        return "maintenance mode: waits for an address".to_owned();
    }
    format!("maintenance mode: machine API on {}, certificate fingerprint sha256:{fingerprint}", endpoints(addresses, api::PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_call_without_an_address() {
        assert_eq!(line(&[], "ab"), "maintenance mode: waits for an address");
        let told = line(&["192.0.2.7".parse().unwrap()], "ab");
        assert_eq!(told, "maintenance mode: machine API on 192.0.2.7:50000, certificate fingerprint sha256:ab");
    }
}
