//! Decides what to do with the table.

use std::fmt;
use std::sync::Arc;

use machine::config::{ClusterNetwork, Cni};

use super::compile::Compiled;
use super::render;
use crate::plan::{Missing, Plan};

#[derive(Debug)]
pub struct Seen {
    pub network: Option<ClusterNetwork>,
    /// What is to be; or what is not known yet.
    pub wanted: Result<Arc<Compiled>, Vec<Missing>>,
    pub kernel: Kernel,
    /// Whether connections may go on that the table in force forbids.
    pub uncut: bool,
    /// Whether users are told of the policies as they are.
    pub told: bool,
}

/// What the kernel has.
#[derive(Debug, Clone)]
pub enum Kernel {
    Nothing,
    /// A table of an agent before this one, or one that somebody has touched.
    Unknown,
    Table(Arc<Compiled>),
}

#[derive(Clone)]
pub enum Action {
    /// Nobody is kept from anything.
    Remove,
    Load {
        commands: String,
        result: Arc<Compiled>,
        /// Whether something may be forbidden after it that was not before.
        narrows: bool,
    },
    /// Ends connections that the table in force forbids.
    Cut(Arc<Compiled>),
    Tell(Arc<Compiled>),
}

impl fmt::Debug for Action {
    /// In few words: a table can be long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Remove => f.write_str("Remove"),
            Action::Load { commands, narrows, .. } => write!(f, "Load({} bytes, narrows: {narrows})", commands.len()),
            Action::Cut(_) => f.write_str("Cut"),
            Action::Tell(compiled) => write!(f, "Tell({} policies)", compiled.told.len()),
        }
    }
}

/// Whether it is for Corten to enforce policies.
pub fn is_ours(network: &ClusterNetwork) -> bool {
    network.cni == Cni::Overlay
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let Some(network) = &seen.network else { return Plan::Waiting(vec![Missing::new("machine config")]) };
    if !is_ours(network) {
        return remove(seen, &Arc::default());
    }
    // What an agent before this one made stays in force until all is known.
    let wanted = match &seen.wanted {
        Ok(wanted) => wanted,
        Err(missing) => return Plan::Waiting(missing.clone()),
    };
    if wanted.told.is_empty() {
        return remove(seen, wanted);
    }
    let mut actions: Vec<Action> = load(&seen.kernel, wanted).into_iter().collect();
    let narrows = actions.iter().any(|action| matches!(action, Action::Load { narrows: true, .. }));
    if narrows || seen.uncut {
        actions.push(Action::Cut(wanted.clone()));
    }
    if !seen.told {
        actions.push(Action::Tell(wanted.clone()));
    }
    Plan::from_actions(actions)
}

fn remove(seen: &Seen, nothing: &Arc<Compiled>) -> Plan<Action> {
    let table = (!matches!(seen.kernel, Kernel::Nothing)).then_some(Action::Remove);
    let tell = (!seen.told).then(|| Action::Tell(nothing.clone()));
    Plan::from_actions(table.into_iter().chain(tell).collect())
}

fn load(kernel: &Kernel, wanted: &Arc<Compiled>) -> Option<Action> {
    let result = wanted.clone();
    let whole = || Action::Load { commands: render::whole(&wanted.table), result: wanted.clone(), narrows: true };
    let Kernel::Table(present) = kernel else { return Some(whole()) };
    if Arc::ptr_eq(present, wanted) || present.table == wanted.table {
        return None;
    }
    let Some(commands) = render::change(&present.table, &wanted.table) else { return Some(whole()) };
    Some(Action::Load { commands, result, narrows: wanted.table.may_forbid_more_than(&present.table) })
}
