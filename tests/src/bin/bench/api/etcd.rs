//! etcd, the peer: one member with an empty store, asked for its status.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use ::tests::place;
use anyhow::Context;

use super::identities::Identities;
use super::process::{Process, listening};

pub const NAME: &str = "etcd";
pub const PORT: u16 = 2379;

/// Of package etcdserverpb; the fields that are of interest.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct StatusRequest {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusResponse {
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Starts it in `folder` and waits until it listens.
pub async fn start(folder: &Path, identities: &Identities) -> anyhow::Result<Process> {
    fs::create_dir_all(folder)?;
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display())).map(|()| path)
    };
    let certificate = file("server.crt", &identities.server.certificate_pem)?;
    let key = file("server.key", identities.server.key_pem.reveal())?;
    let authority = file("ca.crt", &identities.authority_pem)?;
    let mut command = Command::new(place::repository().join("build/components/etcd/bin/etcd"));
    command.args(["--name", "bench", "--log-level", "error", "--client-cert-auth", "--tls-min-version", "TLS1.3"]);
    command.arg("--data-dir").arg(folder.join("data"));
    command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key).arg("--trusted-ca-file").arg(authority);
    let address = format!("https://127.0.0.1:{PORT}");
    command.args(["--listen-client-urls", &address, "--advertise-client-urls", &address]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380"]);
    command.args(["--initial-cluster", "bench=http://127.0.0.1:2380"]);
    let log = folder.join("log");
    let process = Process::start(NAME, &mut command, &log)?;
    listening(process, SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), &log).await
}
