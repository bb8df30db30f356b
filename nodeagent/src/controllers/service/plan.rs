//! What has to be done for a program to be as it should.

use machine::file::File;
use machine::service::{ServiceId, ServiceSpec};

use super::Want;
use crate::plan::Plan;

/// What is there of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// Of the wanted files, those that are not on the disk as wanted.
    pub stale: Vec<File>,
    /// What this agent told init last.
    pub put: Option<ServiceSpec>,
    /// Whether init has the service, told by this agent or by one before it.
    pub known: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    WriteFile(File),
    PutService(Box<ServiceSpec>),
    RemoveService(ServiceId),
}

/// Files first: a program that is started finds them.
pub fn plan(want: &Want, present: &Present) -> Plan<Action> {
    match want {
        Want::Waiting(missing) => Plan::Waiting(missing.clone()),
        Want::Absent(id) if present.known || present.put.is_some() => Plan::Act(vec![Action::RemoveService(id.clone())]),
        Want::Absent(_) => Plan::Settled,
        Want::Running(program) => {
            let mut actions: Vec<Action> = present.stale.iter().cloned().map(Action::WriteFile).collect();
            if present.put.as_ref() != Some(&program.spec) {
                actions.push(Action::PutService(Box::new(program.spec.clone())));
            }
            Plan::from_actions(actions)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use machine::account::Account;
    use machine::service::*;
    use proptest::prelude::*;

    use super::*;
    use crate::controllers::service::{Program, always};

    /// A machine as a value: its files, and init's table.
    #[derive(Debug, Default)]
    struct Model {
        files: BTreeMap<PathBuf, File>,
        table: BTreeMap<ServiceId, ServiceSpec>,
        /// Puts that changed the table: a restart each.
        restarts: usize,
    }

    impl Model {
        fn present(&self, want: &Want) -> Present {
            match want {
                Want::Waiting(_) => Present::default(),
                Want::Absent(id) => self.of(id, &[]),
                Want::Running(program) => self.of(&program.spec.id, &program.files),
            }
        }

        fn of(&self, id: &ServiceId, wanted: &[File]) -> Present {
            let stale = wanted.iter().filter(|file| self.files.get(&file.path) != Some(file)).cloned().collect();
            Present { stale, put: self.table.get(id).cloned(), known: self.table.contains_key(id) }
        }

        fn apply(&mut self, action: Action) {
            match action {
                Action::WriteFile(file) => {
                    self.files.insert(file.path.clone(), file);
                }
                Action::PutService(spec) => {
                    if self.table.insert(spec.id.clone(), (*spec).clone()).as_ref() != Some(&spec) {
                        self.restarts += 1;
                    }
                }
                Action::RemoveService(id) => {
                    self.table.remove(&id);
                }
            }
        }

        fn settle(&mut self, want: &Want) {
            if let Plan::Act(actions) = plan(want, &self.present(want)) {
                actions.into_iter().for_each(|action| self.apply(action));
            }
        }
    }

    fn program(contents: &[u8], argument: &str) -> Want {
        let file = File { path: "/etc/thing".into(), mode: 0o600, account: Account::Root, contents: contents.to_vec() };
        let spec = ServiceSpec {
            id: ServiceId::new("thing").unwrap(),
            program: "/usr/bin/thing".into(),
            args: vec![argument.to_owned()],
            environment: BTreeMap::new(),
            account: Account::Root,
            capabilities: Capabilities::Only(Vec::new()),
            no_new_privileges: true,
            filesystem: Filesystem::Host,
            slice: Slice::System,
            resources: Resources::default(),
            open_files: 1024,
            oom_score_adjust: 0,
            after: Vec::new(),
            readiness: Readiness::Started,
            restart: always(),
            stop: Stop { deadline: std::time::Duration::from_secs(1), whole: StopScope::Cgroup },
            files_digest: String::new(),
        };
        Want::Running(Box::new(Program::new(vec![file], spec)))
    }

    proptest! {
        #[test]
        fn applied_is_settled(wants in proptest::collection::vec((any::<Option<[u8; 2]>>(), "[ab]"), 1..6)) {
            let mut model = Model::default();
            for (contents, argument) in wants {
                let want = match contents {
                    Some(contents) => program(&contents, &argument),
                    None => Want::Absent(ServiceId::new("thing").unwrap()),
                };
                model.settle(&want);
                prop_assert_eq!(plan(&want, &model.present(&want)), Plan::Settled);
            }
        }
    }

    #[test]
    fn an_agent_that_starts_anew_restarts_nothing() {
        let want = program(b"x", "a");
        let mut model = Model::default();
        model.settle(&want);
        let forgotten = Present { put: None, ..model.present(&want) };
        let Plan::Act(actions) = plan(&want, &forgotten) else { panic!("the spec has to be told again") };
        actions.into_iter().for_each(|action| model.apply(action));
        assert_eq!(model.restarts, 1);
    }

    #[test]
    fn changed_contents_restart() {
        let mut model = Model::default();
        model.settle(&program(b"x", "a"));
        model.settle(&program(b"y", "a"));
        assert_eq!(model.restarts, 2);
    }
}
