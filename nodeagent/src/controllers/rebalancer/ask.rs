//! The pods of a node, by the API server, and what they use, by the node's own agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use api::v1::metrics_client::MetricsClient;
use api::v1::{GroupKind, GroupUsage, StreamMetricsRequest};
use controlplane::pki::MachineRole;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;
use machine::config::{Host, HostPort};
use tokio::time::timeout;

use super::evictable::stays_because;
use super::plan::Candidate;
use super::source::Source;
use crate::agents;
use crate::controllers::api as kubernetes;
use crate::controllers::machine::Machine;
use crate::node::Node;

/// A pod that began less than so many seconds ago stays: its start may be what brought the pressure.
const LEAST_AGE: i64 = 300;
const DEADLINE: Duration = Duration::from_secs(10);
/// A node has some hundreds at most.
const PAGE: u32 = 500;

/// By namespace and name.
pub type ByPod = BTreeMap<(String, String), f64>;

/// Who knows what the pods of a node use.
pub trait Uses: std::fmt::Debug + Send + Sync + 'static {
    /// Of a resource: CPUs, bytes, bytes a second.
    fn of(&self, node: &Node, machine: &Machine, address: IpAddr, resource: &str) -> impl Future<Output = anyhow::Result<ByPod>> + Send;
}

/// The agents of the nodes, who are asked as readers.
#[derive(Debug)]
pub struct Agents;

impl Uses for Agents {
    async fn of(&self, node: &Node, machine: &Machine, address: IpAddr, resource: &str) -> anyhow::Result<ByPod> {
        let asked = async {
            let server = HostPort { host: Host::Address(address), port: ::api::PORT };
            let mut client = MetricsClient::new(agents::connect_as(node, machine, &server, MachineRole::Reader).await?);
            let mut answers = client.stream(StreamMetricsRequest::default()).await?.into_inner();
            answers.message().await?.context("it says nothing")
        };
        let answer = timeout(DEADLINE, asked).await.context("no answer")??;
        Ok(by_pod(&answer.groups, resource))
    }
}

fn by_pod(groups: &[GroupUsage], resource: &str) -> ByPod {
    let pods = groups.iter().filter(|group| group.kind() == GroupKind::Pod && !group.pod.is_empty());
    let uses = |group: &GroupUsage| match resource {
        "cpu" => group.cpus_used,
        "memory" => group.memory_used_bytes.map(|bytes| bytes as f64),
        _ => Some(group.read_bytes_per_second? + group.written_bytes_per_second?),
    };
    pods.filter_map(|group| Some(((group.namespace.clone(), group.pod.clone()), uses(group)?))).collect()
}

/// The pods of the node that would be relieved.
pub async fn pods(
    uses: &impl Uses,
    node: &Node,
    machine: &Machine,
    source: &Source,
    address: Option<IpAddr>,
    now: i64,
) -> anyhow::Result<Vec<Candidate>> {
    let name = &source.node;
    let address = address.with_context(|| format!("Node {name} has no address"))?;
    let used = uses.of(node, machine, address, &source.resource).await.with_context(|| format!("asking {name} what its pods use"))?;
    let api: Api<Pod> = Api::all(kubernetes::reliever(&machine.config, &machine.facts.node_name)?.kube().clone());
    let mut params = ListParams::default().limit(PAGE).fields(&format!("spec.nodeName={name}"));
    let mut candidates = Vec::new();
    loop {
        let page = timeout(DEADLINE, api.list(&params)).await.context("no answer").and_then(|listed| Ok(listed?));
        let page = page.with_context(|| format!("listing the pods of {name}"))?;
        candidates.extend(page.items.into_iter().map(|pod| candidate(&pod, &used, now)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(candidates),
        }
    }
}

fn candidate(pod: &Pod, used: &ByPod, now: i64) -> Candidate {
    let (namespace, name) = (pod.metadata.namespace.clone().unwrap_or_default(), pod.metadata.name.clone().unwrap_or_default());
    let owner = pod.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    Candidate {
        uses: used.get(&(namespace.clone(), name.clone())).copied(),
        namespace,
        name,
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        owner: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
        priority: pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default(),
        stays_because: stays_because(pod, now, LEAST_AGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pods_use_of_a_resource() {
        let group = |kind: GroupKind, cpus_used| GroupUsage {
            kind: kind.into(),
            namespace: "a".to_owned(),
            pod: "b".to_owned(),
            cpus_used,
            memory_used_bytes: Some(1024),
            read_bytes_per_second: Some(1.0),
            written_bytes_per_second: Some(2.0),
            ..GroupUsage::default()
        };
        let groups = [group(GroupKind::Pod, Some(0.5)), group(GroupKind::Container, Some(9.0))];
        for (resource, expected) in [("cpu", 0.5), ("memory", 1024.0), ("io", 3.0)] {
            assert_eq!(by_pod(&groups, resource), ByPod::from([(("a".to_owned(), "b".to_owned()), expected)]), "{resource}");
        }
        assert_eq!(by_pod(&[group(GroupKind::Pod, None)], "cpu"), ByPod::new());
    }
}
