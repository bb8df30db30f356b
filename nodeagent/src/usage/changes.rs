//! What pods and their containers use, as changes from one answer to the next: most containers of a node idle, and whoever follows all nodes should
//! not be told so every second.

use std::collections::HashMap;

use api::v1::{Counters, PodChanges, PodUsage};
use metrics::{Names, Place, Sample, Snapshot};

/// What one client was told.
#[derive(Debug, Default)]
pub struct Changes {
    told: HashMap<u64, Told>,
    answers: u64,
}

#[derive(Debug)]
struct Told {
    counters: Counters,
    memory: Option<u64>,
    /// The answer in which it was there last.
    answer: u64,
}

impl Changes {
    /// A container whose name is not known yet is told of once it is.
    pub fn since_last(&mut self, snapshot: &Snapshot, names: &Names) -> PodChanges {
        self.answers += 1;
        let mut changes = PodChanges::default();
        for reading in &snapshot.groups {
            let Some((pod_uid, container)) = called(&reading.place, names) else { continue };
            let (counters, memory) = (counters(&reading.sample), reading.sample.memory.map(|memory| memory.working_set()));
            let usage = |pod_uid: &str, container: &str| PodUsage {
                id: reading.inode,
                pod_uid: pod_uid.to_owned(),
                container: container.to_owned(),
                counters: Some(counters),
                memory_used_bytes: memory,
            };
            let answer = self.answers;
            match self.told.get_mut(&reading.inode) {
                Some(told) => {
                    if (told.counters, told.memory) != (counters, memory) {
                        changes.changed.push(usage("", ""));
                    }
                    *told = Told { counters, memory, answer };
                }
                None => {
                    changes.changed.push(usage(pod_uid, container));
                    self.told.insert(reading.inode, Told { counters, memory, answer });
                }
            }
        }
        let answers = self.answers;
        changes.gone = self.told.extract_if(|_, told| told.answer != answers).map(|(id, _)| id).collect();
        changes
    }
}

/// The pod's uid and the container's name. None for what is no pod's, for sandboxes, and for containers without a name.
fn called<'a>(place: &'a Place, names: &'a Names) -> Option<(&'a str, &'a str)> {
    match place {
        Place::Pod(_, uid) => Some((uid, "")),
        Place::Container(_, uid, _) => Some((&**uid, names.of(place).container)).filter(|(_, name)| !name.is_empty()),
        _ => None,
    }
}

fn counters(sample: &Sample) -> Counters {
    Counters {
        cpu_usec: sample.cpu.map(|cpu| cpu.usage_usec),
        cpu_some_usec: sample.cpu_pressure.map(|pressure| pressure.some_usec),
        memory_full_usec: sample.memory_pressure.and_then(|pressure| pressure.full_usec),
        io_full_usec: sample.io_pressure.and_then(|pressure| pressure.full_usec),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use metrics::names::Container;
    use metrics::place::Quality;
    use metrics::rates::Rates;
    use metrics::sample::Cpu;
    use metrics::{Reading, Service};

    use super::*;

    fn reading(inode: u64, place: Place, usage_usec: u64) -> Reading {
        let sample = Sample { cpu: Some(Cpu { usage_usec, ..Cpu::default() }), ..Sample::default() };
        Reading { place, inode, since: SystemTime::UNIX_EPOCH, sample, rates: Rates::default() }
    }

    fn container(id: &str) -> Place {
        Place::Container(Quality::Burstable, "uid".into(), id.into())
    }

    fn snapshot(groups: Vec<Reading>) -> Snapshot {
        Snapshot { groups, ..Snapshot::default() }
    }

    fn told(changes: &PodChanges) -> Vec<(u64, &str, &str)> {
        changes.changed.iter().map(|usage| (usage.id, &*usage.pod_uid, &*usage.container)).collect()
    }

    #[test]
    fn all_is_told_once_and_then_what_changed() {
        let named = |name: &str| Container { name: name.to_owned(), ..Container::default() };
        let mut names = Names::default();
        names.containers.insert("a".to_owned(), named("app"));
        names.containers.insert("sandbox".to_owned(), named(""));
        let service = Place::Service(Service { slice: "podruntime".into(), name: "kubelet".into() });
        let groups = |app: u64| {
            vec![
                reading(1, Place::Root, app),
                reading(2, service.clone(), app),
                reading(3, Place::Pod(Quality::Burstable, "uid".into()), app),
                reading(4, container("sandbox"), app),
                reading(5, container("a"), app),
                reading(6, container("b"), 7),
            ]
        };
        let mut changes = Changes::default();
        assert_eq!(told(&changes.since_last(&snapshot(groups(1)), &names)), [(3, "uid", ""), (5, "uid", "app")]);
        assert_eq!(changes.since_last(&snapshot(groups(1)), &names), PodChanges::default());
        assert_eq!(told(&changes.since_last(&snapshot(groups(2)), &names)), [(3, "", ""), (5, "", "")]);
        names.containers.insert("b".to_owned(), named("late"));
        assert_eq!(told(&changes.since_last(&snapshot(groups(2)), &names)), [(6, "uid", "late")]);
        let mut fewer = groups(2);
        fewer.retain(|reading| reading.inode != 5);
        assert_eq!(changes.since_last(&snapshot(fewer), &names), PodChanges { changed: Vec::new(), gone: vec![5] });
        assert_eq!(told(&changes.since_last(&snapshot(groups(2)), &names)), [(5, "uid", "app")]);
    }
}
