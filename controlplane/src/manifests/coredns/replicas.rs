//! How many replicas of CoreDNS a cluster has: the linear mode of cluster-proportional-autoscaler with the values that Kubernetes' own DNS add-on
//! gives it (cluster/addons/dns-horizontal-autoscaler in Kubernetes' source).

const CORES_PER_REPLICA: u64 = 256;
const NODES_PER_REPLICA: u64 = 16;

/// What the number of replicas follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClusterSize {
    pub nodes: u64,
    /// Of all nodes together, in thousandths of a core.
    pub cpu_millis: u64,
}

/// One for a single node, two at least for more, then one for each 16 nodes or 256 cores begun.
pub fn replicas(size: ClusterSize) -> i32 {
    let by_cores = size.cpu_millis.div_ceil(CORES_PER_REPLICA * 1000);
    let by_nodes = size.nodes.div_ceil(NODES_PER_REPLICA);
    let least = if size.nodes > 1 { 2 } else { 1 };
    i32::try_from(by_cores.max(by_nodes).max(least)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_follow_nodes_and_cores() {
        // Nodes, cores of all together, replicas.
        let table = [
            (0, 0, 1),
            (1, 2, 1),
            (2, 4, 2),
            (3, 12, 2),
            (32, 128, 2),
            (33, 132, 3),
            (48, 768, 3),
            (48, 769, 4),
            (1, 512, 2),
            (1, 513, 3),
            (160, 640, 10),
            (5000, 20_000, 313),
        ];
        for (nodes, cores, expected) in table {
            let size = ClusterSize { nodes, cpu_millis: cores * 1000 };
            assert_eq!(replicas(size), expected, "{nodes} nodes with {cores} cores");
        }
        assert_eq!(replicas(ClusterSize { nodes: 3, cpu_millis: u64::MAX }), i32::MAX);
    }
}
