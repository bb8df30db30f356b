//! Which archives containerd has yet to import.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Archive;
use crate::plan::{Missing, Plan};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub archives: Vec<Archive>,
    /// containerd's images, by name: digest of each. None when containerd is not there, or everything is known to be imported.
    pub held: Option<BTreeMap<String, String>>,
    /// The board says that all are imported.
    pub settled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Import { name: String, path: PathBuf },
    Tell { name: String },
}

pub fn plan(seen: &Seen) -> Plan<Action> {
    let Some(held) = &seen.held else {
        return if seen.settled { Plan::Settled } else { Plan::Waiting(vec![Missing::new("service containerd")]) };
    };
    let mut actions = Vec::new();
    for archive in &seen.archives {
        let name = archive.name.clone();
        if held.get(&name) != Some(&archive.digest) {
            actions.push(Action::Import { name: name.clone(), path: archive.path.clone() });
        }
        actions.push(Action::Tell { name });
    }
    Plan::from_actions(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str) -> Archive {
        Archive { name: name.to_owned(), digest: format!("sha256:{name}"), path: format!("/{name}.tar").into() }
    }

    fn seen(held: &[&str]) -> Seen {
        let held = held.iter().map(|name| ((*name).to_owned(), format!("sha256:{name}"))).collect();
        Seen { archives: vec![archive("pause"), archive("coredns")], held: Some(held), settled: false }
    }

    fn imported(plan: Plan<Action>) -> Vec<String> {
        let Plan::Act(actions) = plan else { panic!("{plan:?}") };
        actions.into_iter().filter_map(|action| if let Action::Import { name, .. } = action { Some(name) } else { None }).collect()
    }

    #[test]
    fn imports_what_is_not_there_with_the_same_content() {
        assert_eq!(imported(plan(&seen(&[]))), ["pause", "coredns"]);
        assert_eq!(imported(plan(&seen(&["pause"]))), ["coredns"]);
        let mut other = seen(&["pause", "coredns"]);
        other.held.as_mut().unwrap().insert("pause".to_owned(), "sha256:of an older release".to_owned());
        assert_eq!(imported(plan(&other)), ["pause"]);
    }

    #[test]
    fn all_told_is_settled() {
        assert_eq!(plan(&Seen { held: None, settled: true, ..seen(&[]) }), Plan::Settled);
    }

    #[test]
    fn waits_for_containerd() {
        assert_eq!(plan(&Seen { held: None, ..seen(&[]) }), Plan::Waiting(vec![Missing::new("service containerd")]));
    }
}
