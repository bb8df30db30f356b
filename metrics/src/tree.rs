//! Which cgroups there are: told by inotify, so that a tree at rest costs nothing. Only where the kernel lost count is it walked again.
//!
//! Each branch has one watch, for directories made and removed in it. A directory that was made is watched first and listed then: what came
//! in between is found by one of the two, and by both no harm is done.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::place::Place;

/// What became of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there. One of the same place that was there before is not.
    Appeared(Place),
    /// It is gone, and all below it.
    Vanished(Place),
    /// Whatever was not seen since is gone: the tree was walked from the top.
    Walked(Vec<Place>),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make an inotify descriptor")]
    Inotify(#[source] Errno),
    #[error("watch {0}")]
    Watch(PathBuf, #[source] Errno),
    #[error("read inotify's events")]
    Read(#[source] Errno),
}

#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    inotify: OwnedFd,
    watched: HashMap<i32, Place>,
    events: Box<[MaybeUninit<u8>]>,
    /// Since when some branch is not watched, although it is there: the kernel gave no more watches (fs.inotify.max_user_watches).
    blind: Option<Instant>,
}

/// How long what cannot be watched may go unseen.
const BLIND: Duration = Duration::from_secs(10);

/// Room for about a hundred events; those of a burst are read in several turns.
const EVENTS_BYTES: usize = 16 * 1024;

/// One event, taken out of the buffer.
enum Event {
    Made(i32, Option<String>),
    Removed(i32, Option<String>),
    Unwatched(i32),
    Lost,
}

impl Tree {
    /// Watches the tree under `root`; the changes that follow start with a walk.
    pub fn watch(root: &Path) -> Result<(Tree, Vec<Change>), Error> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(Error::Inotify)?;
        let events = vec![MaybeUninit::uninit(); EVENTS_BYTES].into_boxed_slice();
        let mut tree = Tree { root: root.to_owned(), inotify, watched: HashMap::new(), events, blind: None };
        let changes = vec![tree.walk()?];
        Ok((tree, changes))
    }

    pub fn path(&self, place: &Place) -> PathBuf {
        self.root.join(place.to_string().trim_start_matches('/'))
    }

    /// Waits until something changed, at most so long; whether it did.
    pub fn wait(&self, at_most: Duration) -> bool {
        let mut descriptors = [PollFd::new(&self.inotify, PollFlags::IN)];
        let timeout = Timespec::try_from(at_most).ok();
        poll(&mut descriptors, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// What changed since the last call, in order.
    pub fn changes(&mut self) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        loop {
            let events = self.read()?;
            if events.is_empty() {
                if self.blind.is_some_and(|since| since.elapsed() >= BLIND) {
                    changes.push(self.walk()?);
                }
                return Ok(changes);
            }
            events.into_iter().try_for_each(|event| self.follow(event, &mut changes))?;
        }
    }

    fn follow(&mut self, event: Event, changes: &mut Vec<Change>) -> Result<(), Error> {
        match event {
            Event::Made(watch, name) => {
                if let Some(place) = self.child(watch, name) {
                    self.appeared(place, changes);
                }
            }
            Event::Removed(watch, name) => changes.extend(self.child(watch, name).map(Change::Vanished)),
            Event::Unwatched(watch) => drop(self.watched.remove(&watch)),
            Event::Lost => {
                changes.clear();
                changes.push(self.walk()?);
            }
        }
        Ok(())
    }

    fn child(&self, watch: i32, name: Option<String>) -> Option<Place> {
        self.watched.get(&watch)?.child(&name?)
    }

    /// What one read gives; empty where nothing waits.
    fn read(&mut self) -> Result<Vec<Event>, Error> {
        let mut reader = inotify::Reader::new(&self.inotify, &mut self.events);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(taken(&event)),
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::Read(error)),
            }
            if reader.is_buffer_empty() {
                return Ok(events);
            }
        }
    }

    /// Watches and lists the tree from the top.
    fn walk(&mut self) -> Result<Change, Error> {
        self.blind = None;
        self.watch_directory(&Place::Root)?;
        let mut changes = Vec::new();
        let mut places = vec![Place::Root];
        for child in self.children(&Place::Root) {
            self.appeared(child, &mut changes);
        }
        places.extend(changes.into_iter().filter_map(|change| match change {
            Change::Appeared(place) => Some(place),
            Change::Vanished(_) | Change::Walked(_) => None,
        }));
        Ok(Change::Walked(places))
    }

    fn appeared(&mut self, place: Place, changes: &mut Vec<Change>) {
        changes.push(Change::Appeared(place.clone()));
        if !place.is_branch() {
            return;
        }
        match self.watch_directory(&place) {
            Ok(()) => {}
            // One that is gone again says so by its parent's watch.
            Err(Error::Watch(_, Errno::NOENT | Errno::NOTDIR)) => return,
            Err(_) => self.blind = self.blind.or(Some(Instant::now())),
        }
        for child in self.children(&place) {
            self.appeared(child, changes);
        }
    }

    fn watch_directory(&mut self, place: &Place) -> Result<(), Error> {
        let path = self.path(place);
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR | WatchFlags::DONT_FOLLOW;
        let watch = inotify::add_watch(&self.inotify, &path, flags).map_err(|error| Error::Watch(path, error))?;
        self.watched.insert(watch, place.clone());
        Ok(())
    }

    fn children(&self, place: &Place) -> Vec<Place> {
        let Ok(entries) = fs::read_dir(self.path(place)) else { return Vec::new() };
        let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.filter_map(|entry| place.child(entry.file_name().to_str()?)).collect()
    }
}

fn taken(event: &inotify::Event<'_>) -> Event {
    let flags = event.events();
    let name = event.file_name().and_then(|name| OsStr::from_bytes(name.to_bytes()).to_str()).map(str::to_owned);
    // Of a directory's own files nothing is wanted.
    let name = name.filter(|_| flags.contains(ReadFlags::ISDIR));
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        Event::Lost
    } else if flags.contains(ReadFlags::IGNORED) {
        Event::Unwatched(event.wd())
    } else if flags.contains(ReadFlags::DELETE) {
        Event::Removed(event.wd(), name)
    } else {
        Event::Made(event.wd(), name)
    }
}
