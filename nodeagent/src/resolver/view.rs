//! What the resolver has to know of the machine and its cluster, made anew when the board changes, and not for each question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use machine::config::Cni;
use tokio::sync::watch;

use super::{ADDRESS, ADDRESS_V6, PORT};
use crate::node::Node;
use crate::resources::network::Resolvers;
use crate::resources::overlay::ClusterNode;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Whom to pass questions on to, in this order.
    pub servers: Vec<SocketAddr>,
    /// Addresses of the cluster's machines by their names, in lower case.
    pub machines: BTreeMap<String, Vec<IpAddr>>,
    /// Networks that pods ask from.
    pub pods: Vec<IpNet>,
}

impl View {
    fn of(node: &Node) -> View {
        let config = node.config();
        let network = config.as_ref().map(|applied| &applied.config.cluster.network);
        let resolvers = node.store.get::<Resolvers>(Resolvers::NAME).unwrap_or_default();
        let own = [IpAddr::V4(ADDRESS), IpAddr::V6(ADDRESS_V6)];
        View {
            servers: resolvers
                .nameservers
                .into_iter()
                .filter(|server| !own.contains(server))
                .map(|server| SocketAddr::new(server, PORT))
                .collect(),
            machines: node.store.all::<ClusterNode>().into_iter().map(|(name, node)| (name.to_lowercase(), node.addresses)).collect(),
            pods: match network {
                // Whoever connects pods gives them what addresses they like.
                Some(network) if network.cni == Cni::None => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
                Some(network) => network.pod_cidrs.clone(),
                None => Vec::new(),
            },
        }
    }

    /// Whether somebody at this address is of this machine. The kernel takes packets for any of its addresses from any link, so that a neighbour on
    /// the machine's network could ask as well.
    pub fn may_ask(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        source.is_loopback() || source == ADDRESS || source == ADDRESS_V6 || self.pods.iter().any(|pods| pods.contains(&source))
    }
}

/// The view, and what keeps it fresh for as long as somebody holds it.
pub fn follow(node: Node) -> (watch::Receiver<Arc<View>>, impl Future<Output = ()> + Send) {
    let node = node.recording();
    let (views, receiver) = watch::channel(Arc::new(View::of(&node)));
    let following = async move {
        let (mut board, mut config) = (node.store.revision(), node.watch_config());
        loop {
            let revision = *board.borrow_and_update();
            config.mark_unchanged();
            let view = View::of(&node);
            views.send_if_modified(|known| {
                let changed = **known != view;
                if changed {
                    *known = Arc::new(view);
                }
                changed
            });
            let reads: BTreeSet<String> = node.store.take_reads();
            loop {
                let changed = tokio::select! {
                    changed = board.changed() => changed,
                    changed = config.changed() => changed,
                    () = views.closed() => return,
                };
                if changed.is_err() {
                    return;
                }
                if config.has_changed().unwrap_or(false) || node.store.changed_after(revision, &reads) {
                    break;
                }
            }
        }
    };
    (receiver, following)
}
