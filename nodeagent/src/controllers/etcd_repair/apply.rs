//! Moves etcd's data about, while etcd does not run. Everything blocks.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use machine::Root;
use machine::account::Account;
use nix::unistd::geteuid;

use super::plan::Action;
use crate::clock::wall_seconds;
use crate::etcd::database::Database;
use crate::etcd::wal::{self, Entry};
use crate::member::restore::STAGED;
use crate::node::Node;
use crate::resources::bootstrap::{self, Bootstrap};
use crate::resources::etcd_repair::{self, Repair};

/// Below the data directory: what etcd calls its own.
const MEMBER: &str = "member";
/// Where the new one is made up.
const MADE: &str = "member.new";
/// What etcd had before a restore.
const BEFORE: &str = "before";

pub fn apply(action: Action, node: &Node) -> anyhow::Result<()> {
    match action {
        Action::Place => place(&node.root),
        Action::Record(record) => {
            let known = node.store.get::<Bootstrap>(Bootstrap::NAME);
            let by = known.map_or_else(|| "itself".to_owned(), |known| known.by);
            bootstrap::save(node, &Bootstrap { record: *record, at: wall_seconds(), by })
        }
        Action::Seal => seal(node),
        Action::CommitAll => {
            in_peace(&node.root)?;
            let last = wal::commit_all(&node.root.etcd_data().join(MEMBER).join("wal"))?;
            node.events.emit("service/etcd", "LogCounts", format!("all of its log counts, up to entry {last}"));
            Ok(())
        }
        Action::Proceed(repair) => etcd_repair::proceed(node, repair),
        Action::Wipe => wipe(node),
        Action::End => {
            etcd_repair::end(node)?;
            node.events.emit("service/etcd", "Repaired", "what was asked for is done");
            Ok(())
        }
    }
}

/// Each step leaves something from which the same one follows again; what waits is gone only once it is in its place.
fn place(root: &Root) -> anyhow::Result<()> {
    in_peace(root)?;
    let (data, restore) = (root.etcd_data(), root.etcd_restore());
    let (member, made, before, staged) = (data.join(MEMBER), data.join(MADE), restore.join(BEFORE), restore.join(STAGED));
    if is_same(&member.join("snap/db"), &staged)? {
        return mark_placed(&restore, &staged);
    }
    if member.exists() {
        remove_directory(&before)?;
        fs::rename(&member, &before).with_context(|| format!("putting {} aside", member.display()))?;
    }
    remove_directory(&made)?;
    let directory = made.join("snap");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let database = directory.join("db");
    // A second name: the first one is the mark that this is not done.
    fs::hard_link(&staged, &database).with_context(|| format!("placing {}", database.display()))?;
    for path in [&made, &directory, &database] {
        hand_over(path)?;
    }
    File::open(&directory)?.sync_all()?;
    fs::rename(&made, &member).with_context(|| format!("placing {}", member.display()))?;
    File::open(&data)?.sync_all()?;
    mark_placed(&restore, &staged)
}

fn mark_placed(restore: &Path, staged: &Path) -> anyhow::Result<()> {
    fs::remove_file(staged).with_context(|| format!("removing {}", staged.display()))?;
    Ok(File::open(restore)?.sync_all()?)
}

/// Whether both are names of one file.
fn is_same(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let number = |path: &Path| match fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let (one, other) = (number(one)?, number(other)?);
    Ok(one.is_some() && one == other)
}

/// A log that begins with its first entry would be all that a new member is given, and what was in the database before it would be missing there.
fn seal(node: &Node) -> anyhow::Result<()> {
    in_peace(&node.root)?;
    let member = node.root.etcd_data().join(MEMBER);
    let position = Database::read(&member.join("snap/db"))?.position()?;
    if position.index == 0 {
        // Its power was cut too early.
        etcd_repair::proceed(node, Repair::Settle)?;
        bail!("nothing of etcd's log is in its database yet: etcd has to start again");
    }
    Ok(wal::begin_at(&member.join("wal"), Entry { term: position.term, index: position.index })?)
}

fn wipe(node: &Node) -> anyhow::Result<()> {
    in_peace(&node.root)?;
    let data = node.root.etcd_data();
    match fs::read_dir(&data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", data.display())),
        Ok(entries) => {
            for entry in entries {
                remove_directory(&entry?.path())?;
            }
            File::open(&data)?.sync_all()?;
        }
    }
    bootstrap::forget(&node.root)?;
    node.store.remove::<Bootstrap>(Bootstrap::NAME);
    Ok(())
}

/// Nobody has etcd's database open: etcd holds a lock on it while it runs.
fn in_peace(root: &Root) -> anyhow::Result<()> {
    let path = root.etcd_data().join(MEMBER).join("snap/db");
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("opening {}", path.display())),
        Ok(file) => {
            let locked = file.try_lock();
            ensure!(locked.is_ok(), "{}: etcd still has it", path.display());
            Ok(())
        }
    }
}

/// To etcd's account.
fn hand_over(path: &Path) -> anyhow::Result<()> {
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("protecting {}", path.display()))?;
    if geteuid().is_root() {
        let id = Account::Etcd.id();
        chown(path, Some(id), Some(id)).with_context(|| format!("giving {} to etcd", path.display()))?;
    }
    Ok(())
}

fn remove_directory(path: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display())),
        Ok(_) => fs::remove_file(path).with_context(|| format!("removing {}", path.display())),
    }
}
