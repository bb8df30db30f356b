//! Loads kernel modules and sets sysctls: those that Kubernetes needs, and the machine config's.
//!
//! reads: machine config, /sys/module, /proc/sys   writes: modules and sysctls of the kernel

mod apply;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

use crate::controller::{Controller, Wake};
use crate::node::Node;
use crate::plan::Plan;
pub use apply::load;
use plan::{Action, Seen};

#[derive(Debug, Default)]
pub struct Kernel {
    /// Modules that modprobe had nothing to do for or that show up nowhere: built into the kernel.
    loaded: BTreeSet<String>,
}

impl Controller for Kernel {
    type Seen = Seen;
    type Action = Vec<Action>;
    const NAME: &'static str = "kernel";
    const WAKE: Wake = Wake::WhatItReads;

    async fn observe(&mut self, node: &Node) -> anyhow::Result<Seen> {
        let Some(config) = node.config().map(|applied| applied.config) else { return Ok(Seen::default()) };
        let mut loaded = self.loaded.clone();
        for module in plan::modules(&config) {
            if node.root.path(&format!("/sys/module/{}", module.name.replace('-', "_"))).exists() {
                loaded.insert(module.name);
            }
        }
        let values: BTreeMap<String, Option<String>> =
            plan::sysctls(&config).into_keys().map(|name| (name.clone(), apply::read(&node.root, &name))).collect();
        Ok(Seen { config: Some(config), loaded, values })
    }

    fn plan(&self, seen: &Seen) -> Plan<Vec<Action>> {
        plan::plan(seen)
    }

    /// All of them, also when one goes wrong: a module that does not exist is no reason to leave packets unforwarded.
    async fn apply(&mut self, actions: Vec<Action>, node: &Node) -> anyhow::Result<()> {
        let mut problems = Vec::new();
        for action in actions {
            let applied = match action {
                Action::Load(module) => {
                    let loaded = apply::load(&node.root, &module).await;
                    if loaded.is_ok() {
                        self.loaded.insert(module.name);
                    }
                    loaded.context("machine.kernel.modules")
                }
                Action::Set { name, value } => apply::set(&node.root, &name, &value),
            };
            problems.extend(applied.err().map(|error| format!("{error:#}")));
        }
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
        Ok(())
    }
}
