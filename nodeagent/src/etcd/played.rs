//! A real etcd for tests, as `make components` builds it, on a port of its own.

pub mod keys;
pub mod machine;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use controlplane::pki::{AuthorityId, CertificateRequest, Issued, San, Usage};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::Access;
use super::maintenance::{Status, status};
use crate::components::component;
use crate::server::testing::{DAY, secrets};

pub struct Etcd {
    process: Child,
    arguments: Vec<String>,
    server: String,
    client: Issued,
    directory: TempDir,
}

impl Etcd {
    /// Does not wait until it answers.
    pub fn start() -> Etcd {
        Etcd::start_in(tempfile::tempdir().unwrap())
    }

    /// A new cluster that begins with this database.
    pub fn start_with(database: &std::path::Path) -> Etcd {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("data/member/snap")).unwrap();
        fs::copy(database, directory.path().join("data/member/snap/db")).unwrap();
        Etcd::start_in(directory)
    }

    fn start_in(directory: TempDir) -> Etcd {
        let server = issue(Usage::Server, San::loopback());
        for (name, text) in [("ca", authority()), ("crt", &server.certificate_pem), ("key", server.key_pem.reveal())] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (client, peer) = (format!("https://127.0.0.1:{}", free()), format!("http://127.0.0.1:{}", free()));
        let path = |name: &str| directory.path().join(name).display().to_string();
        let arguments = [
            ("data-dir", path("data")),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client.clone()),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("default={peer}")),
            ("trusted-ca-file", path("ca")),
            ("cert-file", path("crt")),
            ("key-file", path("key")),
            ("client-cert-auth", "true".to_owned()),
        ];
        let arguments: Vec<String> = arguments.into_iter().map(|(name, value)| format!("--{name}={value}")).collect();
        let process = spawn(&arguments, &directory);
        Etcd { process, arguments, server: client, client: issue(Usage::Client, Vec::new()), directory }
    }

    /// Kills it and starts it again on its data.
    pub fn restart(&mut self) {
        // It may have ended.
        let _ = self.process.start_kill();
        // Its lock on the data goes with it; the next one waits for that.
        self.process = spawn(&self.arguments, &self.directory);
    }

    pub async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub fn access(&self) -> Access<'_> {
        Access { server: &self.server, authority: authority(), certificate: &self.client, kept: None }
    }

    pub async fn until_it_answers(&self) -> Status {
        let answered = async {
            loop {
                match status(self.access(), super::QUICK).await {
                    Ok(status) if status.leader != 0 => return status,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap_or_else(|_| panic!("etcd does not answer:\n{}", self.log()))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn spawn(arguments: &[String], directory: &TempDir) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(directory.path().join("log")).unwrap();
    Command::new(component("etcd/bin/etcd")).args(arguments).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap()
}

/// A certificate of etcd's clients' authority.
pub fn issue(usage: Usage, sans: Vec<San>) -> Issued {
    let request = CertificateRequest { common_name: "cp-1".to_owned(), organization: None, sans, usage, lifetime: DAY };
    secrets().issue(AuthorityId::EtcdClient, &request, std::time::SystemTime::now()).unwrap()
}

pub fn authority() -> &'static str {
    &secrets().certificate_authorities.etcd_client.certificate
}
