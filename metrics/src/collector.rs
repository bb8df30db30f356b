//! Follows the tree, sweeps it, and hands out what it found as snapshots that nobody changes any more.
//!
//! Two snapshots take turns: the one that readers may hold, and the one that the next sweep fills. As long as no reader keeps one for longer
//! than a sweep, nothing is allocated.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::group::Group;
use crate::identity::Identity;
use crate::network::{Network, PodInterface, Sandboxes, own_namespace};
use crate::node::{self, Interface, Node};
use crate::pace::{self, Cost, Pace};
use crate::place::Place;
use crate::rates::Rates;
use crate::sample::Sample;
use crate::tree::{self, Change, Tree};

/// Cgroups that are read at most. A node may have 250 pods of a few containers each; beyond this they are counted only.
pub const MOST_GROUPS: usize = 4096;
/// The longest file of a cgroup's is `memory.stat`, of about 2 KiB.
const BUFFER_BYTES: usize = 16 * 1024;
/// What comes in a burst is followed together.
const BURST: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Tree(#[from] tree::Error),
    #[error("open /proc")]
    Proc(#[source] Errno),
}

/// What one cgroup used, and how fast.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub place: Place,
    /// Of the cgroup's directory: another number is another cgroup, whatever its path.
    pub inode: u64,
    pub since: SystemTime,
    pub sample: Sample,
    pub rates: Rates,
}

/// All that one sweep found.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When the sweep began.
    pub at: SystemTime,
    pub identity: Arc<Identity>,
    pub node: Node,
    /// In no order.
    pub groups: Vec<Reading>,
    /// Of pods that are in networks of their own.
    pub networks: Vec<PodInterface>,
    /// Cgroups that were too many to be read.
    pub left_out: usize,
    /// To the next sweep.
    pub interval: Duration,
    /// CPU time of one sweep, smoothed.
    pub cost: Duration,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot {
            at: SystemTime::UNIX_EPOCH,
            identity: Arc::default(),
            node: Node::default(),
            groups: Vec::new(),
            networks: Vec::new(),
            left_out: 0,
            interval: Duration::ZERO,
            cost: Duration::ZERO,
        }
    }
}

#[derive(Debug)]
struct Entry {
    group: Group,
    network: Network,
    read: Instant,
    reading: Reading,
}

#[derive(Debug)]
pub struct Collector {
    tree: Tree,
    entries: Vec<Entry>,
    index: HashMap<Place, usize>,
    left_out: usize,
    identity: Arc<Identity>,
    node: node::Files,
    sandboxes: Sandboxes,
    /// The machine's own network namespace, by its inode.
    host_network: Option<u64>,
    swept: Option<Instant>,
    buffer: Box<[u8]>,
    pace: Pace,
    cost: Cost,
    /// CPU time of the thread when the sweep before was done.
    spent: Duration,
    published: Arc<Snapshot>,
    spare: Arc<Snapshot>,
}

impl Collector {
    /// Watches the tree mounted at `cgroups` and opens what is needed of `proc`.
    pub fn new(cgroups: &Path, proc: &Path, pace: Pace) -> Result<Collector, Error> {
        raise_open_files();
        let (tree, changes) = Tree::watch(cgroups)?;
        let node = node::Files::open(proc).map_err(Error::Proc)?;
        let mut collector = Collector {
            tree,
            entries: Vec::new(),
            index: HashMap::new(),
            left_out: 0,
            identity: Arc::default(),
            host_network: own_namespace(node.directory()),
            node,
            sandboxes: Sandboxes::default(),
            swept: None,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            pace,
            cost: Cost::default(),
            spent: thread_time(),
            published: Arc::default(),
            spare: Arc::default(),
        };
        collector.apply(changes);
        Ok(collector)
    }

    /// Tells by `sandboxes` which containers are sandboxes of pods, by whose processes pods' networks are found.
    pub fn knowing(self, sandboxes: impl Fn(&str) -> Option<bool> + Send + 'static) -> Collector {
        Collector { sandboxes: Sandboxes(Box::new(sandboxes)), ..self }
    }

    /// Tells in its snapshots which machine they are of.
    pub fn of(self, identity: Identity) -> Collector {
        Collector { identity: Arc::new(identity), ..self }
    }

    /// Sweeps for as long as `publish` takes the snapshots: its answer says whether to go on.
    pub fn run(mut self, mut publish: impl FnMut(Arc<Snapshot>) -> bool) -> Result<(), Error> {
        loop {
            let begun = Instant::now();
            let snapshot = self.sweep()?;
            let interval = snapshot.interval;
            if !publish(snapshot) {
                return Ok(());
            }
            while let Some(left) = interval.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
                if self.tree.wait(left) {
                    std::thread::sleep(BURST.min(left));
                    self.follow()?;
                }
            }
        }
    }

    /// Takes in what appeared and vanished. What appeared is read at once, so that there is something to compare with.
    pub fn follow(&mut self) -> Result<(), Error> {
        let changes = self.tree.changes()?;
        self.apply(changes);
        Ok(())
    }

    /// Reads everything there is, once.
    pub fn sweep(&mut self) -> Result<Arc<Snapshot>, Error> {
        self.follow()?;
        let at = SystemTime::now();
        self.entries.iter_mut().for_each(|entry| entry.read(&mut self.buffer));
        self.drop_gone();
        let before = self.published.clone();
        let elapsed = self.swept.replace(Instant::now()).map(|swept| swept.elapsed());
        let snapshot = fresh(&mut self.spare);
        self.node.sweep(&before.node, elapsed, &mut snapshot.node);
        snapshot.at = at;
        snapshot.identity.clone_from(&self.identity);
        snapshot.left_out = self.left_out;
        publish_readings(&self.entries, &mut snapshot.groups);
        snapshot.networks.clear();
        let ways = (&self.sandboxes, self.node.directory(), self.host_network);
        for (at, entry) in self.entries.iter_mut().enumerate() {
            entry.sweep_network(ways, &mut self.buffer, |interface| snapshot.networks.push(PodInterface { group: at, interface }));
        }
        drop(before);
        let spent = thread_time();
        self.cost.add(spent.saturating_sub(self.spent));
        self.spent = spent;
        snapshot.interval = pace::interval(self.pace, self.cost);
        snapshot.cost = self.cost.mean();
        std::mem::swap(&mut self.published, &mut self.spare);
        Ok(self.published.clone())
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Appeared(place) => self.appeared(place),
                Change::Vanished(place) => self.vanished(&place),
                Change::Walked(places) => {
                    let there: std::collections::HashSet<&Place> = places.iter().collect();
                    let gone: Vec<Place> = self.index.keys().filter(|place| !there.contains(place)).cloned().collect();
                    gone.iter().for_each(|place| self.vanished(place));
                    self.left_out = 0;
                    places.into_iter().for_each(|place| self.appeared(place));
                }
            }
        }
    }

    fn appeared(&mut self, place: Place) {
        // One that cannot be opened has gone again, and its parent's watch says so.
        let Ok(group) = Group::open(&self.tree.path(&place)) else { return };
        match self.index.get(&place) {
            Some(known) if self.entries[*known].group.inode == group.inode => return,
            Some(_) => self.vanished(&place),
            None if self.entries.len() >= MOST_GROUPS => {
                self.left_out += 1;
                return;
            }
            None => {}
        }
        self.index.insert(place.clone(), self.entries.len());
        self.entries.push(Entry::new(group, place, &mut self.buffer));
    }

    fn vanished(&mut self, place: &Place) {
        let Some(at) = self.index.remove(place) else { return };
        self.entries.swap_remove(at);
        if let Some(moved) = self.entries.get(at) {
            self.index.insert(moved.reading.place.clone(), at);
        }
    }

    /// Cgroups that answered no more: what is known of them is not told as if it were of now.
    fn drop_gone(&mut self) {
        let mut at = 0;
        while at < self.entries.len() {
            if self.entries[at].group.is_gone() {
                let place = self.entries[at].reading.place.clone();
                self.vanished(&place);
            } else {
                at += 1;
            }
        }
    }
}

impl Entry {
    fn new(mut group: Group, place: Place, buffer: &mut [u8]) -> Entry {
        let sample = *group.sweep(buffer);
        let reading = Reading { place, inode: group.inode, since: group.since, sample, rates: Rates::default() };
        Entry { group, network: Network::default(), read: Instant::now(), reading }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        let sample = self.group.sweep(buffer);
        self.reading.rates = Rates::between(&self.reading.sample, sample, now - self.read);
        self.reading.sample = *sample;
        self.read = now;
    }
}

impl Entry {
    fn sweep_network(&mut self, ways: (&Sandboxes, &OwnedFd, Option<u64>), buffer: &mut [u8], found: impl FnMut(Interface)) {
        if let Place::Container(_, _, id) = &self.reading.place {
            self.network.sweep(&self.group, id, ways, buffer, found);
        }
    }
}

/// The readings as they are, in the places of those before.
fn publish_readings(entries: &[Entry], into: &mut Vec<Reading>) {
    into.truncate(entries.len());
    for (at, entry) in entries.iter().enumerate() {
        match into.get_mut(at) {
            Some(reading) => reading.clone_from(&entry.reading),
            None => into.push(entry.reading.clone()),
        }
    }
}

/// The snapshot to fill: the one before the last, unless a reader holds it still.
fn fresh(spare: &mut Arc<Snapshot>) -> &mut Snapshot {
    if Arc::get_mut(spare).is_none() {
        *spare = Arc::default();
    }
    Arc::get_mut(spare).expect("nobody else has the new one")
}

/// A dozen descriptors a cgroup: the soft limit that programs start with would do for eighty.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not be raised, files that cannot be opened are absent, and looked for again.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
