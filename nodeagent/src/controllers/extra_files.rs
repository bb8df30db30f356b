//! Keeps the files under /etc that the machine config brings. Which ones are ours is written down for this boot, so that a file that is taken
//! out of the config goes, also when the agent was restarted in between.
//!
//! reads: machine config   writes: those files

use std::path::PathBuf;

use anyhow::Context;
use machine::account::Account;
use machine::config::Config;
use machine::file::File;

use super::directory::{self, Action};
use crate::controller::{Controller, Wake};
use crate::files;
use crate::node::Node;
use crate::plan::{Missing, Plan};

#[derive(Debug)]
pub struct ExtraFiles;

#[derive(Debug)]
pub struct Seen {
    /// None without a config.
    wanted: Option<Vec<File>>,
    /// What earlier configs of this boot brought.
    written: Vec<PathBuf>,
    stale: Vec<File>,
}

impl Controller for ExtraFiles {
    type Seen = Seen;
    type Action = Vec<Action>;
    const NAME: &'static str = "files";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let config = node.config().map(|applied| applied.config);
        let wanted = config.map(|config| wanted(node, &config)).transpose()?;
        let stale = wanted.as_deref().map(directory::stale).unwrap_or_default();
        Ok(Seen { wanted, written: read_record(node), stale })
    }

    fn plan(&self, seen: &Seen) -> Plan<Vec<Action>> {
        let Some(wanted) = &seen.wanted else { return Plan::Waiting(vec![Missing::new("machine config")]) };
        let actions = directory::plan(wanted, &seen.written, &seen.stale);
        // One action: the record names a file before it is there, and as long as it may be.
        if actions.is_empty() { Plan::Settled } else { Plan::Act(vec![actions]) }
    }

    async fn apply(&mut self, actions: Vec<Action>, node: &Node) -> anyhow::Result<()> {
        let mut written = read_record(node);
        for action in &actions {
            if let Action::Write(file) = action
                && !written.contains(&file.path)
            {
                written.push(file.path.clone());
            }
        }
        write_record(node, &written)?;
        actions.iter().try_for_each(directory::apply)?;
        written.retain(|path| !actions.contains(&Action::Remove(path.clone())));
        write_record(node, &written)
    }
}

fn wanted(node: &Node, config: &Config) -> anyhow::Result<Vec<File>> {
    let file = |file: &machine::config::File| {
        let mode = u32::from_str_radix(&file.mode, 8);
        let mode =
            mode.with_context(|| format!("machine.files: {}: mode {:?}; expected octal digits, such as 0644", file.path, file.mode))?;
        let contents = file.contents.reveal().as_bytes().to_vec();
        Ok(File { path: node.root.path(&file.path), mode, account: Account::Root, contents })
    };
    config.machine.files.iter().map(file).collect()
}

fn record(node: &Node) -> PathBuf {
    node.root.run().join("extra-files.json")
}

/// None written yet, or a record that is not readable: then nothing is removed.
fn read_record(node: &Node) -> Vec<PathBuf> {
    let text = std::fs::read(record(node)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write_record(node: &Node, paths: &[PathBuf]) -> anyhow::Result<()> {
    files::write(&record(node), &serde_json::to_vec(paths)?, 0o600)
}

#[cfg(test)]
mod tests;
