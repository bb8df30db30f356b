//! A snapshot on its way in: it is checked, and made the data that a new cluster of this machine alone begins with. The controller etcdrepair
//! does the rest.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::Context;
use controlplane::etcd::sealed::{MAGIC, Opener, SealError};
use controlplane::etcd::snapshot::{DIGEST_BYTES, Passing};

use super::{confirmed, control_plane, ready_for_repair};
use crate::clock::wall_seconds;
use crate::etcd::database::Database;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::etcd_repair::{self, Repair};

/// So far the revision grows: nobody has watched as far as that.
const SKIPPED_REVISIONS: u64 = 1_000_000_000;
/// Where what comes is written, and where the controller looks for it.
const UPLOAD: &str = "upload";
pub const STAGED: &str = "db";

/// A snapshot that comes in pieces.
#[derive(Debug)]
pub struct Upload {
    node: Node,
    path: PathBuf,
    file: File,
    passing: Passing,
    /// What an encrypted one is opened with; none once it is known to be a plain one.
    opener: Option<Opener>,
    begun: Vec<u8>,
    dry_run: bool,
}

/// What is or would be done, and the revision of the data in the snapshot.
#[derive(Debug)]
pub struct Restored {
    pub plan: Vec<String>,
    pub revision: u64,
}

impl Upload {
    pub fn begin(node: &Node, confirm: &str, dry_run: bool) -> Result<Upload, Refusal> {
        control_plane(node)?;
        ready_for_repair(node)?;
        if !dry_run {
            confirmed(node, confirm)?;
        }
        let config = node.config().map(|applied| applied.config);
        let secret = config.as_ref().and_then(|config| config.cluster.encryption_key.as_ref());
        let opener = secret.map(Opener::new).transpose().map_err(anyhow::Error::from)?;
        let directory = node.root.etcd_restore();
        fs::create_dir_all(&directory).and_then(|()| fs::set_permissions(&directory, Permissions::from_mode(0o700)))?;
        let path = directory.join(UPLOAD);
        // Another one that comes at the same time has a file of its own: that one's name is gone.
        crate::files::remove(&path)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Upload { node: node.clone(), path, file, passing: Passing::default(), opener, begun: Vec::new(), dry_run })
    }

    pub fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        if self.begun.len() < MAGIC.len() {
            self.begun.extend_from_slice(piece);
            if self.begun.len() < MAGIC.len() {
                return Ok(());
            }
            if !self.begun.starts_with(MAGIC) {
                self.opener = None;
            }
            let begun = self.begun.clone();
            return self.open(&begun);
        }
        self.open(piece)
    }

    fn open(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        match &mut self.opener {
            None => self.write(piece),
            Some(opener) => {
                let opened = opener.open(piece).map_err(sealed)?;
                self.write(&opened)
            }
        }
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.passing.pass(piece);
        let written = self.file.write_all(piece).context("writing it to the ETCD volume");
        written.map_err(|error| Refusal::state("NO_ROOM", format!("{error:#}"), "see machinectl get volumes"))
    }

    /// Checks it, and has it restored, in somebody's name.
    pub fn finish(mut self, by: &str) -> Result<Restored, Refusal> {
        if let Some(opener) = self.opener.take() {
            let rest = opener.finish().map_err(sealed)?;
            self.write(&rest)?;
        }
        let length = self.passing.bytes;
        if !std::mem::take(&mut self.passing).ends_whole() {
            let problem = format!("{length} bytes that do not end with their SHA-256; expected what machinectl etcd snapshot writes");
            return Err(Refusal::field("chunk", problem));
        }
        let bad = |error: crate::etcd::database::DatabaseError| {
            Refusal::field("chunk", format!("{:#}; expected what machinectl etcd snapshot writes", anyhow::Error::from(error)))
        };
        self.file.set_len(length - DIGEST_BYTES as u64)?;
        let database = Database::change(&self.path).map_err(bad)?;
        let position = database.position().map_err(bad)?;
        let hostname = crate::power::hostname(&self.node);
        let plan = vec![
            format!("check the snapshot: {length} bytes, revision {}", position.revision),
            "stop etcd, the API server, the controller manager and the scheduler".to_owned(),
            "put aside what etcd has now, until the next restore".to_owned(),
            format!(
                "start etcd as a new cluster with {hostname} as its only member, at revision {}",
                position.revision + SKIPPED_REVISIONS
            ),
            "other control planes keep what they have until they give it up and join: machinectl etcd rejoin".to_owned(),
        ];
        if !self.dry_run {
            database.begin_anew(SKIPPED_REVISIONS).map_err(bad)?;
            let staged = self.path.with_file_name(STAGED);
            fs::rename(&self.path, &staged).with_context(|| format!("keeping {}", staged.display()))?;
            File::open(self.node.root.etcd_restore())?.sync_all()?;
            let token = format!("restored-{}", wall_seconds());
            etcd_repair::begin(&self.node, Repair::Restore { token }, by)?;
            self.node.events.emit("service/etcd", "Restoring", format!("a snapshot at revision {}, asked by {by}", position.revision));
        }
        Ok(Restored { plan, revision: position.revision })
    }
}

fn sealed(error: SealError) -> Refusal {
    Refusal::field(
        "chunk",
        format!("{error}; expected a snapshot of this cluster, encrypted with its cluster.encryptionKey, or a plain one"),
    )
}

impl Drop for Upload {
    /// Nothing is left of one that was not taken. One that was has another name.
    fn drop(&mut self) {
        let _ = crate::files::remove(&self.path);
    }
}
