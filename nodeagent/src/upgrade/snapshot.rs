//! A copy of etcd's data from before an upgrade, by etcd's own Maintenance.Snapshot: should a new etcd change what the old one cannot read
//! any more, there is a way back.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use controlplane::pki::Issued;
use sha2::{Digest, Sha256};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

/// How long etcd may take to connect, and between two pieces.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Snapshots kept.
const KEPT: usize = 2;
/// etcd puts the SHA-256 of its data behind it (etcdutl's restore checks it).
const DIGEST_BYTES: usize = 32;

/// How to reach an etcd as its client.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `https://127.0.0.1:2379`
    pub server: &'a str,
    /// PEM of the authority of etcd's clients and servers.
    pub authority: &'a str,
    pub certificate: &'a Issued,
}

/// etcdserverpb.SnapshotRequest: empty.
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotRequest {}

/// etcdserverpb.SnapshotResponse, without what is not needed of it (api/etcdserverpb/rpc.proto in etcd's source).
#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotResponse {
    #[prost(uint64, tag = "2")]
    remaining_bytes: u64,
    #[prost(bytes = "vec", tag = "3")]
    blob: Vec<u8>,
}

/// Writes `<directory>/<name>`, whole or not at all, and removes the oldest of those before it; its size in bytes.
pub async fn take(access: Access<'_>, directory: &Path, name: &str) -> anyhow::Result<u64> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    fs::set_permissions(directory, Permissions::from_mode(0o700)).with_context(|| format!("protecting {}", directory.display()))?;
    let temporary = directory.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let written = match &mut file {
        Ok(file) => copy(access, file).await.with_context(|| format!("taking a snapshot of etcd at {}", access.server)),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    let kept = written.and_then(|size| {
        fs::rename(&temporary, directory.join(name))?;
        File::open(directory)?.sync_all()?;
        Ok(size)
    });
    let size =
        kept.inspect_err(|_| drop(fs::remove_file(&temporary))).with_context(|| format!("writing {}", directory.join(name).display()))?;
    prune(directory)?;
    Ok(size)
}

async fn copy(access: Access<'_>, file: &mut File) -> anyhow::Result<u64> {
    let mut pieces = within(open(access)).await??;
    let (mut digest, mut size) = (Sha256::new(), 0);
    // The last bytes so far: they may be the digest.
    let mut tail = Vec::new();
    let mut remaining = None;
    while let Some(piece) = within(pieces.message()).await?? {
        file.write_all(&piece.blob)?;
        size += piece.blob.len() as u64;
        remaining = Some(piece.remaining_bytes);
        tail.extend_from_slice(&piece.blob);
        let known = tail.len().saturating_sub(DIGEST_BYTES);
        digest.update(&tail[..known]);
        tail.drain(..known);
    }
    ensure!(remaining == Some(0), "it ended with {} bytes to come", remaining.map_or("all".to_owned(), |bytes| bytes.to_string()));
    ensure!(digest.finalize().as_slice() == tail, "its SHA-256 is not the one that etcd sent");
    file.sync_all()?;
    Ok(size)
}

async fn open(access: Access<'_>) -> anyhow::Result<Streaming<SnapshotResponse>> {
    let identity = Identity::from_pem(&access.certificate.certificate_pem, access.certificate.key_pem.reveal());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(access.authority)).identity(identity);
    let channel = Channel::from_shared(access.server.to_owned())?.tls_config(tls)?.connect().await?;
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let codec = ProstCodec::<SnapshotRequest, SnapshotResponse>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Snapshot");
    Ok(client.server_streaming(Request::new(SnapshotRequest {}), path, codec).await?.into_inner())
}

async fn within<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let late = || format!("etcd was silent for {} seconds", ANSWER_DEADLINE.as_secs());
    tokio::time::timeout(ANSWER_DEADLINE, work).await.with_context(late)
}

/// Removes all but the newest by their numbers.
fn prune(directory: &Path) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut numbers: Vec<u64> = names.filter_map(|name| name.strip_prefix("upgrade-")?.strip_suffix(".db")?.parse().ok()).collect();
    numbers.sort_unstable();
    for number in numbers.iter().take(numbers.len().saturating_sub(KEPT)) {
        crate::files::remove(&directory.join(format!("upgrade-{number}.db")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Stdio;

    use controlplane::pki::{AuthorityId, CertificateRequest, San, Usage};
    use tokio::process::{Child, Command};

    use super::*;
    use crate::server::testing::{DAY, secrets};

    fn issue(usage: Usage, sans: Vec<San>) -> Issued {
        let request = CertificateRequest { common_name: "cp-1".to_owned(), organization: None, sans, usage, lifetime: DAY };
        secrets().issue(AuthorityId::EtcdClient, &request, std::time::SystemTime::now()).unwrap()
    }

    fn authority() -> &'static str {
        &secrets().certificate_authorities.etcd_client.certificate
    }

    /// The real one, as `make components` builds it.
    async fn etcd(directory: &Path) -> (Child, String) {
        let components = std::env::var_os("CORTEN_COMPONENTS").map_or_else(|| PathBuf::from("../build/components"), PathBuf::from);
        let program = components.join("etcd/bin/etcd");
        assert!(program.exists(), "{} is not there: run `make components` first, or set CORTEN_COMPONENTS", program.display());
        let server = issue(Usage::Server, San::loopback());
        let files = [("ca", authority()), ("crt", &server.certificate_pem), ("key", server.key_pem.reveal())];
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (client, peer) = (format!("https://127.0.0.1:{}", free()), format!("http://127.0.0.1:{}", free()));
        let path = |name: &str| directory.join(name).display().to_string();
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
        ];
        let log = fs::File::create(directory.join("log")).unwrap();
        let mut command = Command::new(program);
        command.args(arguments.map(|(name, value)| format!("--{name}={value}"))).arg("--client-cert-auth");
        let process = command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap();
        (process, client)
    }

    #[tokio::test]
    async fn of_a_real_etcd() {
        let directory = tempfile::tempdir().unwrap();
        let (_process, server) = etcd(directory.path()).await;
        let (client, snapshots) = (issue(Usage::Client, Vec::new()), directory.path().join("snapshots"));
        let access = Access { server: &server, authority: authority(), certificate: &client };
        let taken = async {
            loop {
                match take(access, &snapshots, "upgrade-1.db").await {
                    Ok(size) => return size,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let log = || fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        let size =
            tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap_or_else(|_| panic!("etcd gives no snapshot:\n{}", log()));
        assert_eq!(size % 512, 32, "pages and a digest");
        assert_eq!(fs::metadata(snapshots.join("upgrade-1.db")).unwrap().len(), size);
        for number in 2..=4 {
            take(access, &snapshots, &format!("upgrade-{number}.db")).await.unwrap();
        }
        let mut left: Vec<_> = fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["upgrade-3.db", "upgrade-4.db"]);

        let stranger = secrets()
            .issue(
                AuthorityId::EtcdPeer,
                &CertificateRequest {
                    common_name: "x".to_owned(),
                    organization: None,
                    sans: Vec::new(),
                    usage: Usage::Client,
                    lifetime: DAY,
                },
                std::time::SystemTime::now(),
            )
            .unwrap();
        let error = take(Access { certificate: &stranger, ..access }, &snapshots, "upgrade-5.db").await.unwrap_err();
        assert!(format!("{error:#}").contains("upgrade-5.db"), "{error:#}");
        assert_eq!(fs::read_dir(&snapshots).unwrap().count(), 2, "nothing is left of it");
    }
}
