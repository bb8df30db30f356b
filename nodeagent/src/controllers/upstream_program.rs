//! Programs of upstream that tests run against a control plane, as pods of theirs would be: what `make components` builds for tests alone.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use controlplane::kubeconfig::{self, Auth};
use controlplane::pki::{Authority, CertificateRequest};
use machine::config::Config;

use super::real_cluster::machine_under_test::components;

/// Runs until it is dropped.
#[derive(Debug)]
pub struct UpstreamProgram {
    child: Child,
    directory: tempfile::TempDir,
}

impl UpstreamProgram {
    /// The program `name` of a component, as `who` to the API server in the network of the calling thread. `arguments` may write files into the
    /// directory that it is given.
    pub fn start(
        (component, name): (&str, &str),
        config: &Config,
        who: &CertificateRequest,
        arguments: impl FnOnce(&Path) -> Result<Vec<String>>,
    ) -> Result<UpstreamProgram> {
        let program = components()?.join(component).join("bin").join(name);
        ensure!(program.exists(), "{} is not there: run `make components` first", program.display());
        let authority = &config.cluster.certificate_authorities.kubernetes;
        let key = authority.key.as_ref().context("the config has the key")?;
        let issued = Authority::from_pem(&authority.certificate, key.reveal())?.issue(who, SystemTime::now())?;
        let auth = Auth::Embedded { certificate: &issued.certificate_pem, key: &issued.key_pem };
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig::render("demo", "https://127.0.0.1:6443", &authority.certificate, name, auth)?)?;
        let log = File::create(directory.path().join("log"))?;
        let child = Command::new(&program)
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .args(arguments(directory.path())?)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(UpstreamProgram { child, directory })
    }

    /// The end of what it has said.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for UpstreamProgram {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
