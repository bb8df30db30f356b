//! Every kind of record that lies on STATE, with what becomes of one that a newer release wrote. docs/state.md has the same table.

use std::fs;
use std::path::{Path, PathBuf};

use machine::Root;
use machine::record::LastShutdown;

use super::{Unreadable, Versioned, check, text};
use crate::audit::Position;
use crate::authority_keys::AuthorityKeys;
use crate::controllers::etcd_hold::Hold;
use crate::node::Node;
use crate::resources::api_servers::Membership;
use crate::resources::bootstrap::Bootstrap;
use crate::resources::etcd_repair::EtcdRepair;
use crate::resources::state_record::UnreadRecord;
use crate::{boots, config, upgrade};

struct Row {
    /// On STATE; `<n>` stands for a number, `<slot>` for a or b, `<id>` for anything.
    name: &'static str,
    what: &'static str,
    version: u32,
    directory: fn(&Root) -> PathBuf,
    /// What becomes of a newer one.
    newer: &'static str,
}

impl Row {
    const fn new<T: Versioned>(name: &'static str, what: &'static str, directory: fn(&Root) -> PathBuf, newer: &'static str) -> Row {
        Row { name, what, version: T::VERSION, directory, newer }
    }

    /// Whether a file of the directory is of this kind.
    fn has(&self, file: &str) -> bool {
        let pattern = self.name.rsplit('/').next().unwrap_or_default();
        match pattern.split_once('<') {
            None => file == pattern,
            Some((_, end)) => {
                let (variable, end) = end.split_once('>').unwrap_or_default();
                file.strip_suffix(end).is_some_and(|name| match variable {
                    "n" => name.parse::<u64>().is_ok(),
                    "slot" => matches!(name, "a" | "b"),
                    _ => true,
                })
            }
        }
    }
}

static TABLE: [Row; 12] = [
    Row::new::<config::Current>(
        "config/current",
        "which config generation is in force",
        Root::config_directory,
        "the newest generation that can be used is in force in this boot; the next config that is applied takes its place",
    ),
    Row::new::<config::Record>(
        "config/<n>.json",
        "a config generation's author, time and digest",
        Root::config_directory,
        "that generation is not used, and `current` stays: the newest before it that can be used is in force in this boot",
    ),
    Row::new::<upgrade::records::Record>(
        "upgrades/<n>.json",
        "an upgrade or rollback",
        Root::upgrade_records,
        "it is not shown; its number is not used again",
    ),
    Row::new::<upgrade::slots::SlotRecord>(
        "slots/<slot>.json",
        "the image in a slot",
        Root::slot_records,
        "the slot is shown as the boot loader's entry has it, and `rollback` does not go to it",
    ),
    Row::new::<boots::Record>(
        "boots/<n>.json",
        "a boot and how it ended",
        Root::boot_records,
        "it is not shown; its number is not used again",
    ),
    Row::new::<LastShutdown>(
        "boots/last-shutdown.json",
        "why the last ordered shutdown was",
        Root::boot_records,
        "that boot's end is shown as unknown; the next ordered shutdown writes its own",
    ),
    Row::new::<Bootstrap>(
        "bootstrap.json",
        "how this control plane came to its etcd member",
        Root::state,
        "recovery: etcd is not started, and the machine API answers as ever",
    ),
    Row::new::<Position>(
        "audit/sinks/<id>.json",
        "how far a sink of the audit log got",
        Root::audit_sinks,
        "that sink is sent nothing; `machinectl get auditsinks` says why",
    ),
    Row::new::<Hold>(
        "etcd-hold.json",
        "that this machine holds etcd to an older version",
        Root::state,
        "etcd stays held; the controller etcdhold says why",
    ),
    Row::new::<AuthorityKeys>(
        "pki/authority-keys.json",
        "the authorities' keys that a control plane got from another one, when it joined or when an authority was replaced",
        Root::pki,
        "they are asked for again, of another control plane",
    ),
    Row::new::<Membership>(
        "identity/api-servers.json",
        "which API servers were members of the cluster",
        Root::identity_directory,
        "the API servers that the config names are asked first",
    ),
    Row::new::<EtcdRepair>(
        "etcd-repair.json",
        "what is being done with this machine's member of etcd at somebody's word",
        Root::state,
        "recovery: etcd is not started, and the machine API answers as ever",
    ),
];

impl Versioned for LastShutdown {
    const VERSION: u32 = LastShutdown::VERSION;
}

/// Tells of each record that a newer release wrote: on the console, as an event, and on the board (`machinectl get staterecords`).
pub fn publish(node: &Node) {
    for (row, name, error) in newer(&node.root) {
        let Unreadable::Newer { found, known, .. } = &error else { continue };
        node.console.print(&format!("{error:#}"));
        node.events.emit("machine", "NewerState", error.to_string());
        node.store.put(&name, &UnreadRecord { what: row.what.to_owned(), version: *found, reads: *known, effect: row.newer.to_owned() });
    }
}

/// Those that this release does not read, by their names on STATE.
fn newer(root: &Root) -> Vec<(&'static Row, String, Unreadable)> {
    let mut found = Vec::new();
    for row in &TABLE {
        for path in files(&(row.directory)(root)) {
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !row.has(file) {
                continue;
            }
            // What is damaged or cannot be read, its own reader tells.
            let Ok(Some(text)) = text(&path) else { continue };
            if let Err(error @ Unreadable::Newer { .. }) = check(&path, &text, row.version) {
                let name = path.strip_prefix(root.state()).unwrap_or(&path).display().to_string();
                found.push((row, name, error));
            }
        }
    }
    found
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init_client::InitClient;

    #[test]
    fn the_docs_have_the_table() {
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/state.md")).unwrap();
        for Row { name, what, version, newer, .. } in &TABLE {
            let row = format!("| `{name}` | {what} | {version} | {newer} |");
            assert!(text.contains(&row), "docs/state.md lacks the row\n{row}");
        }
    }

    /// One of each kind, newer than this release: all are told of, by name, and none is written to.
    #[test]
    fn newer_ones_are_told_of_and_left() {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::new(Root::new(directory.path()), InitClient::new(directory.path().join("init.sock")));
        let mut written = Vec::new();
        for row in &TABLE {
            let name = row.name.replace("<n>", "7").replace("<slot>", "b");
            let path = node.root.state().join(&name);
            let text = format!(r#"{{ "version": {}, "later": [] }}"#, row.version + 1);
            crate::files::write(&path, text.as_bytes(), 0o600).unwrap();
            written.push((name, path, text, row.newer));
        }
        for other in ["config/7.yaml", "slots/b.chunks", "identity/machine-id"] {
            crate::files::write(&node.root.state().join(other), br#"{ "version": 99 }"#, 0o600).unwrap();
        }
        publish(&node);
        let told = node.store.all::<UnreadRecord>();
        assert_eq!(told.len(), written.len());
        for (name, path, text, effect) in written {
            assert_eq!(told[&name].effect, effect, "{name}");
            assert_eq!(fs::read_to_string(path).unwrap(), text, "{name}");
        }
    }
}
