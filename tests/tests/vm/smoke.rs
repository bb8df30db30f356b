//! One control plane from image to pod, and everything that is asked of a Kubernetes node.

use std::path::Path;

use tests::cluster::{Cluster, Options};
use tests::sample;

use crate::checks;
use crate::kubernetes;
use crate::machine_api;
use crate::reconfigure;

/// A cluster with the sample in it. With CORTEN_TEST_CLUSTER, the folder of a running one, nothing is booted: for who writes a check.
pub fn cluster(name: &str) -> anyhow::Result<Cluster> {
    let options = Options { name: name.to_owned(), patches: vec![kubernetes::PATCH.to_owned()], ..Options::default() };
    let running = std::env::var_os("CORTEN_TEST_CLUSTER");
    let cluster = running.map_or_else(|| Cluster::create(&options), |directory| Cluster::attach(Path::new(&directory)))?;
    let answer = sample::deploy(&cluster)?;
    anyhow::ensure!(answer.contains(" from hello-"), "the sample answered {answer:?}");
    Ok(cluster)
}

#[test]
#[ignore = "boots a VM: make vm-test T=smoke"]
fn a_node_does_what_kubernetes_users_do() {
    checks::run(
        || cluster("kubernetes"),
        &[kubernetes::CHECKS, kubernetes::WORKLOAD_CHECKS, machine_api::CHECKS, reconfigure::CHECKS].concat(),
    );
}
