//! An address of the machines' own link for a Service: anybody there reaches it, also after the node that announced it has lost power.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::cluster::Cluster;
use tests::until::until;

use super::outsider::Outsider;
use super::{PATIENCE, Pod, nodes, one_pod_a_node};

const POOL: &str = "{ cluster: { network: { loadBalancer: { pools: [{ addresses: [10.5.0.200-10.5.0.209] }] } } } }";
const OUTSIDER: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 250);
/// For another node to be chosen, and to announce: 5 to 8 s of the guests' time.
const FAIL_OVER: Duration = Duration::from_secs(240);

/// With an endpoint of the same node alone, so that an answer tells through which node it came.
const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: balanced }
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: { app: everywhere }
  ports: [{ port: 80, targetPort: 8080 }]
"#;

pub fn fails_over(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = one_pod_a_node(cluster)?;
    // The control plane is to stay: it decides, and the questions are asked through it.
    cluster.kubectl(&["label", "node", "cp-1", "node.kubernetes.io/exclude-from-external-load-balancers=", "--overwrite"])?;
    cluster.machinectl(&["patch", POOL, "-n", &nodes(cluster)?])?;
    cluster.apply(SERVICE)?;
    let address = until("an address of the pool", PATIENCE, || address(cluster))?;
    let outsider = Outsider::plug_in(cluster, OUTSIDER)?;
    let first = until("an answer to a neighbour", PATIENCE, || answering(&outsider, address, &pods))?;
    ensure!(first.starts_with("worker-") && announcer(cluster, address)? == first, "{first} answers");

    cluster.machinectl(&["cluster", "stop", &first, "--power-cut", "--cluster", cluster.name()])?;
    let began = Instant::now();
    let second = until("an answer through another node", FAIL_OVER, || answering(&outsider, address, &pods))?;
    println!("    another node answered {:.1} s after the power went", began.elapsed().as_secs_f32());
    ensure!(second != first && second.starts_with("worker-"), "{second} answers");

    cluster.machinectl(&["cluster", "start", &first, "--cluster", cluster.name()])?;
    cluster.machinectl(&["health", "--wait", "8m", "--timeout", "10m", "-n", &nodes(cluster)?])?;
    // Starting it had the segment take this station off.
    let outsider = Outsider::plug_in(cluster, OUTSIDER)?;
    let third = until("an answer", PATIENCE, || answering(&outsider, address, &pods))?;
    ensure!(third == second, "the address moved back to {third}, which breaks connections");
    Ok(())
}

fn address(cluster: &Cluster) -> anyhow::Result<Ipv4Addr> {
    let told = cluster.kubectl(&["get", "service", "balanced", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"])?;
    told.trim().parse().with_context(|| format!("no address in {told:?}"))
}

/// The node of the pod that answers.
fn answering(outsider: &Outsider, address: Ipv4Addr, pods: &[Pod]) -> anyhow::Result<String> {
    let answer = outsider.get(address, 80)?;
    let pod = pods.iter().find(|pod| answer.contains(&pod.name)).with_context(|| format!("no pod of ours answers: {answer}"))?;
    Ok(pod.node.clone())
}

/// The node that is to announce it, as the control plane says.
fn announcer(cluster: &Cluster, address: Ipv4Addr) -> anyhow::Result<String> {
    let machines = cluster.machines()?;
    let (_, control_plane) = machines.first().context("no machine")?;
    let told: Value = cluster.json(&["get", "loadbalanceraddresses", &address.to_string(), "-n", control_plane])?;
    let row = told.as_array().and_then(|rows| rows.first()).unwrap_or(&told);
    row["status"]["node"].as_str().map(str::to_owned).with_context(|| format!("no node in {told}"))
}
