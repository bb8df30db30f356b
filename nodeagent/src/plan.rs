//! What a controller decides: nothing to do, something missing, or actions.

use std::fmt;

/// A decision. Applying all actions and planning again gives `Settled`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan<A> {
    Settled,
    /// It cannot go on before these are there; users read them in `machinectl get controllers`.
    Waiting(Vec<Missing>),
    Act(Vec<A>),
}

/// Something that a controller waits for, as a noun: `node IP`, `certificate etcd-server`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(transparent)]
pub struct Missing(String);

impl Missing {
    pub fn new(noun: impl Into<String>) -> Missing {
        Missing(noun.into())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<A> Plan<A> {
    /// `Settled` for no actions.
    pub fn from_actions(actions: Vec<A>) -> Plan<A> {
        if actions.is_empty() { Plan::Settled } else { Plan::Act(actions) }
    }
}
