//! Keeps links, addresses, routes, rules, name servers, the hostname and the node IPs as the machine config and the DHCP servers say.
//!
//! reads: machine config, leases, advertisedresolvers, the kernel's links, addresses, routes and rules
//! writes: links, addresses, duplicates (those that the kernel does not use), routes, rules, leases, resolvers, hostnames, nodeips

mod apply;
mod dhcp;
mod duplicates;
mod kernel;
mod plan;
mod render;
mod routers;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::clock::Clock;
use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
use crate::resources::link::{Link, RoutingRule};
use crate::resources::network::{Address, AdvertisedResolvers, Duplicate, Hostname, Lease, LocalResolver, NodeIps, Resolvers, Route};
use crate::store::Resource;
use duplicates::retries::Retries;
pub use duplicates::watch as watch_duplicates;
pub use kernel::link::ipv6_mtu;
pub use kernel::{connect, link_names, publish};
use plan::{Action, Seen};
pub use routers::watch as watch_routers;

/// Marks our addresses (IFA_PROTO), routes and rules (RTA and FRA protocol) and the links that we made (IFLA_GROUP) in the kernel, so that an
/// agent that starts anew knows its own and leaves all others alone. Numbers from 5 on are free for daemons (addresses), 128 to 191 are taken
/// by none of the routing daemons (routes, rules); groups of links are everybody's, and all but 0 are unused.
const PROTOCOL: u8 = 177;

#[derive(Debug)]
pub struct Network {
    netlink: rtnetlink::Handle,
    /// DHCP clients of the links that want them.
    clients: BTreeMap<dhcp::Of, JoinHandle<()>>,
    /// Whether the leases of the agent before are on the board.
    recalled: bool,
    /// Addresses that the kernel refuses, by a clock that begins with this controller.
    retries: Retries,
    started: Instant,
}

impl Network {
    pub fn new() -> anyhow::Result<Network> {
        Ok(Network {
            netlink: kernel::connect()?,
            clients: BTreeMap::new(),
            recalled: false,
            retries: Retries::default(),
            started: Instant::now(),
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.clients.values().for_each(JoinHandle::abort);
    }
}

impl Controller for Network {
    type Seen = Seen;
    type Action = Action;
    const NAME: &'static str = "network";
    const WAKE: Wake = Wake::WhatItReads;

    fn look_again(&self) -> Duration {
        let due = self.retries.wake().map(|wake| wake.saturating_sub(self.started.elapsed()));
        due.map_or(Self::LOOK_AGAIN, |due| due.min(Self::LOOK_AGAIN))
    }

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        if !std::mem::replace(&mut self.recalled, true) {
            for (of, held) in dhcp::recall(&node.root, Clock::new(&node.root).since_boot()) {
                node.store.put(&of.to_string(), &held.grant.lease);
            }
        }
        self.clients.retain(|_, client| !client.is_finished());
        // The kernel is asked itself; that it has something new to say is read off the board.
        for kind in [Link::KIND, Address::KIND, Route::KIND, RoutingRule::KIND] {
            node.store.list(kind);
        }
        let kernel = kernel::read(&self.netlink).await?;
        Ok(Seen {
            config: node.config().map(|applied| applied.config.clone()),
            due: self.retries.due(&kernel, self.started.elapsed()),
            kernel,
            duplicates: node.store.all::<Duplicate>(),
            modules: loaded(&node.root),
            leases: node.store.all::<Lease>(),
            advertised: node.store.all::<AdvertisedResolvers>(),
            clients: self.clients.keys().cloned().collect(),
            machine_id: apply::read_text(&node.root.machine_id()),
            files: render::File::ALL.map(|file| (file, apply::read_text(&file.path(&node.root)))).into(),
            hostname: apply::kernel_hostname(),
            resolvers: node.store.get::<Resolvers>(Resolvers::NAME),
            local_resolver: node.store.get::<LocalResolver>(LocalResolver::NAME),
            name: node.store.get::<Hostname>(Hostname::NAME),
            node_ips: node.store.get::<NodeIps>(NodeIps::NAME),
        })
    }

    fn plan(&self, seen: &Seen) -> Plan<Action> {
        plan::plan(seen)
    }

    async fn apply(&mut self, action: Action, node: &Node) -> anyhow::Result<()> {
        apply::apply(action, node, &self.netlink, &mut self.clients).await
    }
}

/// Follows something for as long as the agent lives. What goes wrong is told, and it begins again after a while.
async fn keep_on<F: Future<Output = anyhow::Result<()>>>(what: &str, follow: impl Fn() -> F) {
    const PAUSE: Duration = Duration::from_secs(10);
    loop {
        if let Err(error) = follow().await {
            tracing::warn!("{what}: {error:#}");
        }
        sleep(PAUSE).await;
    }
}

/// A module that is built into the kernel may not show: then modprobe has nothing to do for it.
fn loaded(root: &machine::Root) -> BTreeSet<String> {
    let is_loaded = |module: &&str| root.path(&format!("/sys/module/{module}")).exists();
    plan::links::MODULES.iter().copied().filter(is_loaded).map(str::to_owned).collect()
}
