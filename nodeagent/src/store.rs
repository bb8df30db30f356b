//! What the machine wants and sees, in memory, by kind and name: the controllers' board and the machine API's Resource service.
//!
//! One writer a kind. Nothing here survives the agent: each controller observes the machine afresh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::{broadcast, watch};

/// A type of object on the board.
pub trait Resource: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Plural, as users type it: `services`.
    const KIND: &'static str;
}

/// An object as the board holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub kind: &'static str,
    pub name: String,
    /// Grows with each change of any object.
    pub revision: u64,
    /// The resource, serialised.
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Put(Object),
    Removed(Object),
}

impl Change {
    fn kind(&self) -> &'static str {
        let (Change::Put(object) | Change::Removed(object)) = self;
        object.kind
    }
}

/// Ends when an object of one of these kinds has changed, or may have, since too much has changed to tell. `false`: the board is gone.
pub async fn next_of(kinds: &[&str], changes: &mut broadcast::Receiver<Change>) -> bool {
    loop {
        match changes.recv().await {
            Ok(change) if !kinds.contains(&change.kind()) => {}
            Err(broadcast::error::RecvError::Closed) => return false,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return true,
        }
    }
}

#[derive(Debug, Default)]
pub struct Store {
    board: Arc<Board>,
    /// What was read through this handle; only a recording one keeps it.
    reads: Option<Mutex<BTreeSet<String>>>,
}

#[derive(Debug)]
struct Board {
    objects: Mutex<Objects>,
    changes: broadcast::Sender<Change>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Objects {
    revision: u64,
    by_kind: BTreeMap<&'static str, BTreeMap<String, Object>>,
    /// When each kind changed last.
    changed: BTreeMap<&'static str, u64>,
}

/// Changes that a slow watcher may fall behind before it must list again.
const BACKLOG: usize = 1024;

impl Default for Board {
    fn default() -> Board {
        Board { objects: Mutex::default(), changes: broadcast::Sender::new(BACKLOG), revision: watch::Sender::new(0) }
    }
}

impl Store {
    /// A handle to the same board that remembers which kinds are read through it.
    pub fn recording(&self) -> Store {
        Store { board: self.board.clone(), reads: Some(Mutex::default()) }
    }

    /// The kinds that were read since this was asked last; none through a handle that does not record.
    pub fn take_reads(&self) -> BTreeSet<String> {
        let take = |reads: &Mutex<BTreeSet<String>>| std::mem::take(&mut *reads.lock().unwrap_or_else(PoisonError::into_inner));
        self.reads.as_ref().map(take).unwrap_or_default()
    }

    /// Whether any of these kinds changed after the revision.
    pub fn changed_after(&self, revision: u64, kinds: &BTreeSet<String>) -> bool {
        let objects = self.lock();
        kinds.iter().any(|kind| objects.changed.get(kind.as_str()).is_some_and(|changed| *changed > revision))
    }

    /// Puts an object; an equal one is left as it is.
    pub fn put<R: Resource>(&self, name: &str, resource: &R) {
        // A resource is a plain struct of ours with string keys: turning it into a value has no way to go wrong.
        let Ok(value) = serde_json::to_value(resource) else { return };
        let mut objects = self.lock();
        let known = objects.by_kind.get(R::KIND).and_then(|kind| kind.get(name));
        if known.is_some_and(|object| object.value == value) {
            return;
        }
        objects.revision += 1;
        let object = Object { kind: R::KIND, name: name.to_owned(), revision: objects.revision, value };
        objects.by_kind.entry(R::KIND).or_default().insert(name.to_owned(), object.clone());
        self.tell(&mut objects, Change::Put(object));
    }

    pub fn remove<R: Resource>(&self, name: &str) {
        let mut objects = self.lock();
        let Some(mut object) = objects.by_kind.get_mut(R::KIND).and_then(|kind| kind.remove(name)) else { return };
        objects.revision += 1;
        object.revision = objects.revision;
        self.tell(&mut objects, Change::Removed(object));
    }

    /// Makes these the only objects of their kind.
    pub fn replace<R: Resource>(&self, resources: impl IntoIterator<Item = (String, R)>) {
        let wanted: BTreeMap<String, R> = resources.into_iter().collect();
        for object in self.list(R::KIND) {
            if !wanted.contains_key(&object.name) {
                self.remove::<R>(&object.name);
            }
        }
        for (name, resource) in &wanted {
            self.put(name, resource);
        }
    }

    pub fn get<R: Resource>(&self, name: &str) -> Option<R> {
        self.record(R::KIND);
        let value = self.lock().by_kind.get(R::KIND)?.get(name)?.value.clone();
        serde_json::from_value(value).ok()
    }

    /// All objects of a type, by name.
    pub fn all<R: Resource>(&self) -> BTreeMap<String, R> {
        let parse = |object: Object| Some((object.name, serde_json::from_value(object.value).ok()?));
        self.list(R::KIND).into_iter().filter_map(parse).collect()
    }

    /// All objects of a kind given by name, in the order of their names.
    pub fn list(&self, kind: &str) -> Vec<Object> {
        self.record(kind);
        self.lock().by_kind.get(kind).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    /// A list and the changes after it, without a gap. A watcher that lags behind [`BACKLOG`] changes gets an error and lists again.
    pub fn watch(&self, kind: &str) -> (Vec<Object>, broadcast::Receiver<Change>) {
        let objects = self.lock();
        let changes = self.board.changes.subscribe();
        let listed = objects.by_kind.get(kind).map(|objects| objects.values().cloned().collect()).unwrap_or_default();
        (listed, changes)
    }

    /// The newest revision, and a way to wait for a newer one.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.board.revision.subscribe()
    }

    fn tell(&self, objects: &mut Objects, change: Change) {
        let (Change::Put(object) | Change::Removed(object)) = &change;
        objects.changed.insert(object.kind, objects.revision);
        // Nobody watching is no error.
        let _ = self.board.changes.send(change);
        self.board.revision.send_replace(objects.revision);
    }

    fn record(&self, kind: &str) {
        if let Some(reads) = &self.reads {
            reads.lock().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.board.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Lamp {
        lit: bool,
    }
    impl Resource for Lamp {
        const KIND: &'static str = "lamps";
    }

    #[test]
    fn an_equal_put_is_no_change() {
        let store = Store::default();
        store.put("a", &Lamp { lit: true });
        let (listed, mut changes) = store.watch("lamps");
        assert_eq!(listed.len(), 1);
        store.put("a", &Lamp { lit: true });
        assert!(changes.try_recv().is_err());
        store.put("a", &Lamp { lit: false });
        assert!(matches!(changes.try_recv(), Ok(Change::Put(object)) if object.revision == 2));
    }

    #[test]
    fn replace_removes_what_is_not_named() {
        let store = Store::default();
        store.put("a", &Lamp { lit: true });
        store.replace([("b".to_owned(), Lamp { lit: false })]);
        assert_eq!(store.get::<Lamp>("a"), None);
        assert_eq!(store.get::<Lamp>("b"), Some(Lamp { lit: false }));
    }

    #[test]
    fn a_recording_handle_knows_what_concerns_it() {
        let store = Store::default();
        store.put("a", &Lamp { lit: true });
        let recording = store.recording();
        assert_eq!(recording.get::<Lamp>("a"), Some(Lamp { lit: true }));
        let reads = recording.take_reads();
        assert_eq!(reads, BTreeSet::from(["lamps".to_owned()]));
        assert_eq!(recording.take_reads(), BTreeSet::new());

        let before = *store.revision().borrow();
        assert!(!store.changed_after(before, &reads));
        store.put("b", &Lamp { lit: true });
        assert!(store.changed_after(before, &reads));
        assert!(!store.changed_after(before, &BTreeSet::from(["doors".to_owned()])));
        let before = *store.revision().borrow();
        store.remove::<Lamp>("b");
        assert!(store.changed_after(before, &reads));
    }
}
