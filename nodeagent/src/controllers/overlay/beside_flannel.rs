//! A machine with Corten and one with flannel in a cluster with a real API server: the agent's controller on the one, upstream's daemon on the
//! other, and a pod on each.

use std::net::IpAddr;
use std::sync::Arc;

use ::machine::config::OverlayBackend;
use anyhow::{Context, ensure};
use controlplane::pki::CertificateId;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as KubernetesNode;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::members::{connect, nth};
use super::packets::{End, exchange};
use super::*;
use crate::controllers::cluster_node;
use crate::controllers::namespace::Namespace;
use crate::controllers::program::Program;
use crate::controllers::real_cluster::{RealCluster, until};
use crate::resources::cluster::NodeStatus;

/// Corten's machine is the control plane.
const OWN: &str = "cp-1";
const OWN_ADDRESS: &str = "192.0.2.20";
const OTHER: &str = "with-flannel";
const OTHER_ADDRESS: &str = "192.0.2.31";
const OTHER_PODS: &str = "10.244.31.0/24";
const PREFIX: &str = "flannel.alpha.coreos.com";

struct Pod {
    namespace: Namespace,
    address: IpAddr,
}

impl Pod {
    fn new(host: &Namespace, network: IpNet, mtu: u16) -> Pod {
        let namespace = Namespace::new();
        connect(host, &namespace, &[network]);
        namespace.run(&format!("ip link set eth0 mtu {mtu}"));
        host.run(&format!("ip link set pod0 mtu {mtu}"));
        Pod { namespace, address: nth(network, 2) }
    }

    fn end(&self) -> End<'_> {
        End { pod: &self.namespace, address: self.address }
    }
}

/// Both machines, with their Nodes and a pod each; the agent is at work, and flannel is not yet.
struct Pair {
    own: Namespace,
    other: Namespace,
    own_network: IpNet,
    pods: Arc<[Pod; 2]>,
    /// What flannel finds the API server by.
    kubeconfig: String,
}

impl Pair {
    /// Pods have the MTU that both overlays come to.
    async fn new(cluster: &RealCluster, mtu: u16) -> anyhow::Result<Pair> {
        let node = &cluster.node;
        let own = Namespace::of_this_thread();
        let other = flanneld::machine(&own, OTHER_ADDRESS);
        let spec = json!({ "spec": { "podCIDR": OTHER_PODS, "podCIDRs": [OTHER_PODS] } });
        cluster.register(&cluster.admin()?, OTHER, OTHER_ADDRESS, spec).await?;
        cluster.register(&cluster.as_who(CertificateId::KubeletClient)?, OWN, OWN_ADDRESS, json!({})).await?;
        tokio::spawn(cluster_node::follow(node.clone()));
        cluster.spawn(Overlay::new()?);
        let own_network = until("this machine has a pod network", || async {
            let status = node.store.get::<NodeStatus>(OWN).context("its Node is not known")?;
            status.pod_cidrs.first().copied().context("none")
        })
        .await?;
        let pods = Arc::new([Pod::new(&own, own_network, mtu), Pod::new(&other, OTHER_PODS.parse::<IpNet>()?, mtu)]);
        Ok(Pair { own, other, own_network, pods, kubeconfig: cluster.kubeconfig(flanneld::API_SERVER)? })
    }

    fn start_flannel(&self, backend: &str) -> anyhow::Result<Program> {
        flanneld::of_a_cluster(&self.other, OTHER, backend, &self.kubeconfig)
    }

    /// Each machine knows the way to the other's pods by this hop, and packets of every kind go both ways.
    async fn reach_each_other(&self, when: &str, [own, other]: [&str; 2], daemon: &Program) -> anyhow::Result<()> {
        let ways = [(&self.own, OTHER_PODS.parse::<IpNet>()?, own), (&self.other, self.own_network, other)];
        until(&format!("both know the way {when}"), || async {
            for (machine, network, hop) in ways {
                let routes = machine.text(&["ip", "route"]);
                ensure!(routes.contains(&format!("{network} via {hop}")), "{hop} for {network}: {routes}\n{}", daemon.log());
            }
            Ok(())
        })
        .await?;
        until(&format!("packets go both ways {when}"), || async {
            let pods = self.pods.clone();
            // Not on the thread of the agent, which goes on meanwhile.
            tokio::task::spawn_blocking(move || exchange(pods[0].end(), pods[1].end())).await?
        })
        .await
    }
}

/// Of the machine's end of the overlay; empty while there is none.
fn hardware_address(machine: &Namespace) -> String {
    let shown = machine.text(&["ip", "-o", "link", "show", "flannel.1"]);
    shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap_or_default().to_owned()
}

/// All that a machine sends by, once it sends to another machine's new end at this address.
fn followed(machine: &Namespace, before: &str, by: &Namespace, address: &str) -> anyhow::Result<String> {
    let now = hardware_address(machine);
    ensure!(!now.is_empty() && now != before, "{now:?} was {before:?}");
    let forwards = by.text(&["bridge", "fdb", "show", "dev", "flannel.1"]);
    ensure!(forwards.contains(&format!("{now} dst {address} ")), "{now} at {address}: {forwards}");
    let neighbours = by.text(&["ip", "neigh", "show", "dev", "flannel.1", "nud", "permanent"]);
    ensure!(neighbours.contains(&now), "{now}: {neighbours}");
    Ok(forwards + &neighbours)
}

fn annotation(name: &str, value: Value) -> Patch<Value> {
    Patch::Merge(json!({ "metadata": { "annotations": { format!("{PREFIX}/{name}"): value } } }))
}

#[test]
fn a_machine_with_flannel_and_one_with_corten_exchange_packets() {
    RealCluster::run(
        |_| {},
        async |cluster| {
            let nodes: Api<KubernetesNode> = Api::all(cluster.admin()?.kube().clone());
            let pair = Pair::new(cluster, 1450).await?;
            let (own_gateway, other_gateway) = (pair.own_network.network(), "10.244.31.0");
            let hops = [format!("{other_gateway} dev flannel.1"), format!("{own_gateway} dev flannel.1")];
            let hops = hops.each_ref().map(String::as_str);
            let daemon = pair.start_flannel("vxlan")?;
            pair.reach_each_other("from nothing", hops, &daemon).await?;
            let told = nodes.get(OTHER).await?.metadata.annotations.context("flannel tells nothing")?;
            let announced = flannel::read(&told).map_err(anyhow::Error::msg)?.context("flannel tells of no end")?;
            ensure!(announced.ends.iter().map(|end| end.address.to_string()).eq([OTHER_ADDRESS]), "{announced:?}");

            // flannel's machine comes back as another: with the hardware address of a new device, behind a new address.
            let before = hardware_address(&pair.other);
            drop(daemon);
            for line in ["ip link delete flannel.1", "ip address delete 192.0.2.31/24 dev eth0", "ip address add 192.0.2.32/24 dev eth0"] {
                pair.other.run(line);
            }
            // Else it would give the new device the hardware address that it finds here.
            nodes.patch(OTHER, &PatchParams::default(), &annotation("backend-data", Value::Null)).await?;
            let daemon = pair.start_flannel("vxlan")?;
            until("the agent follows flannel's machine", || async {
                let entries = followed(&pair.other, &before, &pair.own, "192.0.2.32")?;
                ensure!(!entries.contains(&before), "{before}: {entries}");
                Ok(())
            })
            .await?;
            pair.reach_each_other("after flannel's machine has changed", hops, &daemon).await?;

            // And so does this one, as one that was installed anew.
            let before = hardware_address(&pair.own);
            let machine_id = cluster.node.root.machine_id();
            std::fs::create_dir_all(machine_id.parent().context("a file in a folder")?)?;
            std::fs::write(&machine_id, "5".repeat(32))?;
            pair.own.run("ip link delete flannel.1");
            // Whatever becomes of its Node wakes the agent.
            nodes.patch(OWN, &PatchParams::default(), &annotation("public-ip", json!("192.0.2.66"))).await?;
            until("flannel follows this machine", || async { followed(&pair.own, &before, &pair.other, OWN_ADDRESS).map(drop) }).await?;
            pair.reach_each_other("after this machine has changed", hops, &daemon).await
        },
    );
}

#[test]
fn machines_with_flannel_and_with_corten_send_as_it_is_what_stays_on_their_link() {
    RealCluster::run(
        |config| config.cluster.network.overlay.backend = OverlayBackend::HostGateway,
        async |cluster| {
            let pair = Pair::new(cluster, 1500).await?;
            let daemon = pair.start_flannel("host-gw")?;
            let hops = [OTHER_ADDRESS, OWN_ADDRESS].map(|address| format!("{address} dev eth0"));
            pair.reach_each_other("from nothing", hops.each_ref().map(String::as_str), &daemon).await
        },
    );
}
