//! A copy of etcd's data from before an upgrade, by etcd's own Maintenance.Snapshot: should a new etcd change what the old one cannot read
//! any more, there is a way back.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

use crate::etcd::Access;
use crate::etcd::snapshot::Taking;

/// Snapshots kept.
const KEPT: usize = 2;

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
    let (mut taking, mut size) = (Taking::begin(access).await?, 0);
    while let Some(piece) = taking.next().await? {
        file.write_all(&piece.bytes)?;
        size += piece.bytes.len() as u64;
    }
    file.sync_all()?;
    Ok(size)
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
    use std::time::Duration;

    use controlplane::pki::{AuthorityId, CertificateRequest, Usage};

    use super::*;
    use crate::etcd::played::Etcd;
    use crate::server::testing::{DAY, secrets};

    #[tokio::test]
    async fn of_a_real_etcd() {
        let etcd = Etcd::start();
        let directory = tempfile::tempdir().unwrap();
        let (access, snapshots) = (etcd.access(), directory.path().join("snapshots"));
        let taken = async {
            loop {
                match take(access, &snapshots, "upgrade-1.db").await {
                    Ok(size) => return size,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let size = tokio::time::timeout(Duration::from_secs(60), taken).await;
        let size = size.unwrap_or_else(|_| panic!("etcd gives no snapshot:\n{}", etcd.log()));
        assert_eq!(size % 512, 32, "pages and a digest");
        assert_eq!(fs::metadata(snapshots.join("upgrade-1.db")).unwrap().len(), size);
        for number in 2..=4 {
            take(access, &snapshots, &format!("upgrade-{number}.db")).await.unwrap();
        }
        let mut left: Vec<_> = fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["upgrade-3.db", "upgrade-4.db"]);

        let request =
            CertificateRequest { common_name: "x".to_owned(), organization: None, sans: Vec::new(), usage: Usage::Client, lifetime: DAY };
        let stranger = secrets().issue(AuthorityId::EtcdPeer, &request, std::time::SystemTime::now()).unwrap();
        let error = take(Access { certificate: &stranger, ..access }, &snapshots, "upgrade-5.db").await.unwrap_err();
        assert!(format!("{error:#}").contains("upgrade-5.db"), "{error:#}");
        assert_eq!(fs::read_dir(&snapshots).unwrap().count(), 2, "nothing is left of it");
    }
}
