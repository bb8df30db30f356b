//! The cloud controller manager of upstream, with the fake cloud of upstream's own tests: `components/cloudprovider`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::components::component;
use crate::controllers::program::Program;

/// Of a cloud with these instances, by the names of their Nodes.
pub fn start(kubeconfig: &str, instances: &Value) -> anyhow::Result<Program> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
        let path = directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let (kubeconfig, cloud) = (file("kubeconfig", kubeconfig)?, file("cloud.json", &instances.to_string())?);
    let mut command = Command::new(component("cloudprovider/bin/cloud-controller-manager"));
    command
        .args(["--cloud-provider=fake", "--leader-elect=false", "--secure-port=0", "--webhook-secure-port=0"])
        .arg("--controllers=cloud-node-controller")
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--cloud-config={}", cloud.display()))
        .env_clear();
    Program::start(&mut command, directory)
}
