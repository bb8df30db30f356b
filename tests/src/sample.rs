//! The sample: our HTTP server as a Deployment with a Service, and a pod that asks it through the Service's address.

use std::time::Duration;

use anyhow::Context;

use crate::cluster::Cluster;
use crate::place;
use crate::until::until;

pub const MANIFEST: &str = include_str!("../../configs/examples/hello.yaml");

/// Imports the sample's image.
pub fn import(cluster: &Cluster) -> anyhow::Result<()> {
    let archive = place::sample_archive();
    cluster.machinectl(&["image", "import", archive.to_str().context("path of the sample archive")?]).map(drop)
}

/// Imports the sample image, deploys it, and gives what it answered through its Service.
pub fn deploy(cluster: &Cluster) -> anyhow::Result<String> {
    import(cluster)?;
    cluster.apply(MANIFEST)?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=120s"])?;
    until("the sample's answer through its Service", Duration::from_secs(300), || {
        let address = cluster.kubectl(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
        cluster.kubectl(&["exec", "deployment/hello", "--", "/hello", "get", &format!("http://{address}:80/")])
    })
}
