//! What all nodes of the cluster and their pods use, as a control plane hears it from the nodes' agents.
//!
//! A node is believed what it says of itself, and no more of it is kept than one that is honest could have: whose pods they are is for the reader to
//! compare with the cluster's own word.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use api::v1::{Counters, NodeUsage, PodChanges, PodUsage, StreamMetricsResponse};
use metrics::collector::MOST_GROUPS;
use metrics::window::{self, Average, Window};
use tokio::time::Instant;

/// Figures of this age are of the past: nobody is told them any more. Longer where the node's sweeps are further apart.
pub const STALE: Duration = Duration::from_secs(10);
const STALE_SWEEPS: u32 = 3;
/// Longer names are no container's, and no pod's uid (DNS labels).
const LONGEST_NAME: usize = 63;

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct ClusterUsage(Arc<Mutex<HashMap<String, Told>>>);

/// What one node told.
#[derive(Debug)]
struct Told {
    heard: Instant,
    /// Of the newest sweep, by the node's clock, since 1970.
    at: Duration,
    interval: Duration,
    node: Group,
    groups: HashMap<u64, Group>,
    /// Ids of a pod and its containers, by its uid.
    pods: HashMap<Arc<str>, Vec<u64>>,
}

#[derive(Debug, Default)]
struct Group {
    uid: Arc<str>,
    /// Empty for a pod as a whole.
    container: Arc<str>,
    memory: Option<u64>,
    window: Window,
}

/// What a node, a pod or a container uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub memory_bytes: Option<u64>,
    pub average: Average,
}

/// Figures of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment<T> {
    /// Of the sweep, by the node's clock.
    pub at: SystemTime,
    pub figures: T,
}

/// A pod's, and its containers' by their names.
#[derive(Debug, Clone, PartialEq)]
pub struct PodFigures {
    pub whole: Option<Figures>,
    pub containers: BTreeMap<Arc<str>, Figures>,
}

impl ClusterUsage {
    /// What a node tells. The first answer of a stream tells of everything there is.
    pub fn add(&self, node: &str, answer: &StreamMetricsResponse, first: bool, now: Instant) {
        let Some(at) = answer.at.and_then(since_1970) else { return };
        let mut all = self.lock();
        let told = all.entry(node.to_owned()).or_insert_with(|| Told::new(now));
        told.heard = now;
        told.interval = answer.interval.and_then(|interval| interval.try_into().ok()).unwrap_or_default();
        let before = std::mem::replace(&mut told.at, at);
        told.node.take(answer.node.as_ref().and_then(|node| node.counters).as_ref(), answer.node.as_ref().and_then(memory), at, before);
        if let Some(pods) = &answer.pods {
            told.take(pods, first, before);
        }
    }

    /// A node that left the cluster.
    pub fn remove(&self, node: &str) {
        self.lock().remove(node);
    }

    /// A look at one moment. Nothing is taken in meanwhile, so keep it short.
    pub fn look(&self, now: Instant) -> Look<'_> {
        Look { all: self.lock(), now }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub struct Look<'a> {
    all: MutexGuard<'a, HashMap<String, Told>>,
    now: Instant,
}

impl Look<'_> {
    /// None of a node that is silent, or has not told twice yet.
    pub fn node(&self, name: &str) -> Option<Moment<Figures>> {
        let told = self.fresh(name)?;
        Some(Moment { at: SystemTime::UNIX_EPOCH + told.at, figures: told.node.figures(told.at)? })
    }

    /// Of the pod with this uid on this node.
    pub fn pod(&self, node: &str, uid: &str) -> Option<Moment<PodFigures>> {
        let told = self.fresh(node)?;
        let groups = told.pods.get(uid)?.iter().filter_map(|id| told.groups.get(id));
        let mut figures = PodFigures { whole: None, containers: BTreeMap::new() };
        for group in groups {
            match &*group.container {
                "" => figures.whole = group.figures(told.at),
                // What is not known of one container yet is not known of the pod.
                _ => drop(figures.containers.insert(group.container.clone(), group.figures(told.at)?)),
            }
        }
        Some(Moment { at: SystemTime::UNIX_EPOCH + told.at, figures })
    }

    fn fresh(&self, name: &str) -> Option<&Told> {
        self.all.get(name).filter(|told| self.now - told.heard < STALE.max(told.interval * STALE_SWEEPS))
    }
}

impl Told {
    fn new(now: Instant) -> Told {
        Told {
            heard: now,
            at: Duration::ZERO,
            interval: Duration::ZERO,
            node: Group::default(),
            groups: HashMap::new(),
            pods: HashMap::new(),
        }
    }

    fn take(&mut self, changes: &PodChanges, first: bool, before: Duration) {
        if first {
            let there: HashSet<u64> = changes.changed.iter().map(|usage| usage.id).collect();
            let gone: Vec<u64> = self.groups.keys().filter(|id| !there.contains(id)).copied().collect();
            gone.into_iter().for_each(|id| self.remove(id));
        }
        changes.gone.iter().for_each(|id| self.remove(*id));
        for usage in &changes.changed {
            if !usage.pod_uid.is_empty() && self.groups.get(&usage.id).is_none_or(|known| !known.is_called(usage)) {
                self.remove(usage.id);
                self.begin(usage);
            }
            if let Some(group) = self.groups.get_mut(&usage.id) {
                group.take(usage.counters.as_ref(), usage.memory_used_bytes, self.at, before);
            }
        }
    }

    fn begin(&mut self, usage: &PodUsage) {
        if self.groups.len() >= MOST_GROUPS || usage.pod_uid.len() > LONGEST_NAME || usage.container.len() > LONGEST_NAME {
            return;
        }
        let uid: Arc<str> = usage.pod_uid.as_str().into();
        self.pods.entry(uid.clone()).or_default().push(usage.id);
        let group = Group { uid, container: usage.container.as_str().into(), ..Group::default() };
        self.groups.insert(usage.id, group);
    }

    fn remove(&mut self, id: u64) {
        let Some(group) = self.groups.remove(&id) else { return };
        if let Some(ids) = self.pods.get_mut(&group.uid) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.pods.remove(&group.uid);
            }
        }
    }
}

impl Group {
    fn is_called(&self, usage: &PodUsage) -> bool {
        (&*self.uid, &*self.container) == (&*usage.pod_uid, &*usage.container)
    }

    fn take(&mut self, counters: Option<&Counters>, memory: Option<u64>, at: Duration, before: Duration) {
        self.memory = memory;
        let Some(counters) = counters else { return };
        let counters = window::Counters {
            cpu: counters.cpu_usec,
            cpu_some: counters.cpu_some_usec,
            memory_full: counters.memory_full_usec,
            io_full: counters.io_full_usec,
        };
        self.window.add(counters, at, before);
    }

    fn figures(&self, newest_sweep: Duration) -> Option<Figures> {
        Some(Figures { memory_bytes: self.memory, average: self.window.average(newest_sweep)? })
    }
}

fn memory(node: &NodeUsage) -> Option<u64> {
    node.memory_used_bytes
}

fn since_1970(at: prost_types::Timestamp) -> Option<Duration> {
    SystemTime::try_from(at).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(id: u64, uid: &str, container: &str, cpu_usec: u64, memory: u64) -> PodUsage {
        let counters = Some(Counters { cpu_usec: Some(cpu_usec), ..Counters::default() });
        PodUsage { id, pod_uid: uid.to_owned(), container: container.to_owned(), counters, memory_used_bytes: Some(memory) }
    }

    fn answer(second: i64, changed: Vec<PodUsage>, gone: Vec<u64>) -> StreamMetricsResponse {
        let counters = Some(Counters { cpu_usec: Some(second as u64 * 500_000), ..Counters::default() });
        StreamMetricsResponse {
            at: Some(prost_types::Timestamp { seconds: 1_800_000_000 + second, nanos: 0 }),
            node: Some(NodeUsage { counters, memory_used_bytes: Some(1 << 30), ..NodeUsage::default() }),
            pods: Some(PodChanges { changed, gone }),
            ..StreamMetricsResponse::default()
        }
    }

    fn cpus(cluster: &ClusterUsage, uid: &str, now: Instant) -> Vec<(String, f64)> {
        let pod = cluster.look(now).pod("a", uid);
        let containers = pod.into_iter().flat_map(|pod| pod.figures.containers);
        containers.map(|(name, figures)| (name.to_string(), figures.average.cpus.unwrap())).collect()
    }

    #[test]
    fn what_is_not_told_again_holds() {
        let (cluster, now) = (ClusterUsage::default(), Instant::now());
        cluster.add(
            "a",
            &answer(0, vec![usage(1, "u", "", 0, 7), usage(2, "u", "app", 0, 7), usage(3, "u", "idle", 0, 7)], vec![]),
            true,
            now,
        );
        assert_eq!(cluster.look(now).node("a"), None);
        assert_eq!(cpus(&cluster, "u", now), []);
        cluster.add("a", &answer(1, vec![usage(2, "", "", 250_000, 8)], vec![]), false, now);
        assert_eq!(cpus(&cluster, "u", now), [("app".to_owned(), 0.25), ("idle".to_owned(), 0.0)]);
        let node = cluster.look(now).node("a").unwrap();
        assert_eq!((node.figures.average.cpus, node.figures.memory_bytes), (Some(0.5), Some(1 << 30)));
        assert_eq!(node.at, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_001));
        cluster.add("a", &answer(2, vec![], vec![3]), false, now);
        assert_eq!(cpus(&cluster, "u", now), [("app".to_owned(), 0.125)]);
        // The agent began anew, and the container is the same.
        cluster.add("a", &answer(4, vec![usage(2, "u", "app", 500_000, 9)], vec![]), true, now);
        assert_eq!(cpus(&cluster, "u", now), [("app".to_owned(), 0.125)]);
        assert_eq!(cluster.look(now).pod("a", "u").unwrap().figures.whole, None);
    }

    #[test]
    fn a_silent_node_is_unknown() {
        let (cluster, now) = (ClusterUsage::default(), Instant::now());
        for second in 0..2 {
            cluster.add("a", &answer(second, vec![usage(1, "u", "app", 0, 7)], vec![]), second == 0, now);
        }
        assert!(cluster.look(now).pod("a", "u").is_some());
        let later = cluster.look(now + STALE);
        assert_eq!((later.node("a"), later.pod("a", "u")), (None, None));
        drop(later);
        // A heartbeat tells nothing, however new it is.
        cluster.add("a", &StreamMetricsResponse::default(), false, now + STALE);
        assert_eq!(cluster.look(now + STALE).node("a"), None);
        cluster.remove("a");
        assert_eq!(cluster.look(now).node("a"), None);
    }

    #[test]
    fn a_node_cannot_make_a_control_plane_keep_more_than_a_node_has() {
        let (cluster, now) = (ClusterUsage::default(), Instant::now());
        let many = (0..20_000).map(|id| usage(id, "u", &format!("c{id}"), 0, 7)).collect();
        cluster.add("a", &answer(0, many, vec![]), true, now);
        let long = "x".repeat(LONGEST_NAME + 1);
        cluster.add("b", &answer(0, vec![usage(1, &long, "a", 0, 7), usage(2, "u", &long, 0, 7)], vec![]), true, now);
        let all = cluster.lock();
        assert_eq!((all["a"].groups.len(), all["b"].groups.len()), (MOST_GROUPS, 0));
    }
}
