//! The cloud controller manager of upstream, with the fake cloud of upstream's own tests: `components/cloudprovider`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use controlplane::kubeconfig::{self, Auth};
use controlplane::pki::{self, Authority};
use machine::config::Config;
use serde_json::Value;

const LIFETIME: Duration = Duration::from_secs(3600);
const NAME: &str = "cloud-controller-manager";

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Manager {
    child: Child,
    directory: tempfile::TempDir,
}

impl Manager {
    /// Of a cloud with these instances, by the names of their Nodes.
    pub fn start(config: &Config, instances: &Value) -> anyhow::Result<Manager> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/components/cloudprovider/bin").join(NAME);
        ensure!(program.exists(), "{} is missing: make components", program.display());
        let authority = &config.cluster.certificate_authorities.kubernetes;
        let key = authority.key.as_ref().context("the config has the key")?;
        let admin = Authority::from_pem(&authority.certificate, key.reveal())?.issue(&pki::super_user(LIFETIME), SystemTime::now())?;
        let auth = Auth::Embedded { certificate: &admin.certificate_pem, key: &admin.key_pem };
        let kubeconfig = kubeconfig::render("demo", "https://127.0.0.1:6443", &authority.certificate, NAME, auth)?;
        let directory = tempfile::tempdir()?;
        let file = |name: &str, text: String| -> anyhow::Result<PathBuf> {
            let path = directory.path().join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let (kubeconfig, cloud) = (file("kubeconfig", kubeconfig)?, file("cloud.json", instances.to_string())?);
        let log = File::create(directory.path().join("log"))?;
        let child = Command::new(&program)
            .args(["--cloud-provider=fake", "--leader-elect=false", "--secure-port=0", "--webhook-secure-port=0"])
            .arg("--controllers=cloud-node-controller")
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--cloud-config={}", cloud.display()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Manager { child, directory })
    }

    /// The end of what it has said.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
