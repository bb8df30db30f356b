//! The cloud controller manager of upstream, with the fake cloud of upstream's own tests: `components/cloudprovider`.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use controlplane::pki;
use machine::config::Config;
use serde_json::Value;

use crate::controllers::upstream_program::UpstreamProgram;

const PROGRAM: (&str, &str) = ("cloudprovider", "cloud-controller-manager");

/// Of a cloud with these instances, by the names of their Nodes.
pub fn start(config: &Config, instances: &Value) -> Result<UpstreamProgram> {
    UpstreamProgram::start(PROGRAM, config, &pki::super_user(Duration::from_secs(3600)), |directory| {
        let cloud = directory.join("cloud.json");
        fs::write(&cloud, instances.to_string())?;
        let arguments = [
            "--cloud-provider=fake",
            "--leader-elect=false",
            "--secure-port=0",
            "--webhook-secure-port=0",
            "--controllers=cloud-node-controller",
        ];
        Ok(arguments.map(str::to_owned).into_iter().chain([format!("--cloud-config={}", cloud.display())]).collect())
    })
}
