//! The cgroup v2 tree: a branch a slice, a leaf a service, and one for init itself. `kubepods` beside them belongs to the kubelet.
//! On a host without cgroup v2 (a test), services run without and are killed by process group.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use machine::service::{Resources, ServiceId, Slice};
use rustix::process::{Pid, Signal};

/// Controllers that the kubelet and the limits of services need. One that the kernel lacks is left out.
const CONTROLLERS: [&str; 7] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb", "misc"];
/// The leaf that holds init and the tools it runs.
const OWN: &str = "init";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("make the cgroup {0}")]
    Make(PathBuf, #[source] io::Error),
    #[error("write {value:?} to {path}")]
    Write {
        path: PathBuf,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("read {0}")]
    Read(PathBuf, #[source] io::Error),
}

/// The tree, where there is one.
#[derive(Debug, Clone)]
pub struct Cgroups {
    directory: Option<PathBuf>,
}

/// `cpu.weight` of the branches. The kubelet gives `kubepods` about 40 a CPU, so the control plane is served first when CPUs are short,
/// what runs pods next.
fn weight(slice: Slice) -> u32 {
    match slice {
        Slice::System => 200,
        Slice::Podruntime => 200,
        Slice::Controlplane => 500,
    }
}

impl Cgroups {
    /// The tree mounted at `directory`, if it is one.
    pub fn at(directory: PathBuf) -> Cgroups {
        let there = directory.join("cgroup.controllers").exists();
        Cgroups { directory: there.then_some(directory) }
    }

    /// Makes the branches, passes the controllers on, and moves init into its own leaf.
    pub fn prepare(&self) -> Result<(), Error> {
        let Some(top) = &self.directory else { return Ok(()) };
        let own = top.join(OWN);
        make(&own)?;
        write(&own.join("cgroup.procs"), "0")?;
        pass_controllers_on(top)?;
        for slice in Slice::ALL {
            let branch = top.join(slice.name());
            make(&branch)?;
            pass_controllers_on(&branch)?;
            if branch.join("cpu.weight").exists() {
                write(&branch.join("cpu.weight"), &weight(slice).to_string())?;
            }
        }
        Ok(())
    }

    /// Makes a service's leaf with its limits and answers the file that a process is moved into it by. Limits of a controller that the
    /// kernel lacks are left out.
    pub fn enter(&self, slice: Slice, id: &ServiceId, resources: &Resources) -> Result<Option<File>, Error> {
        let Some(leaf) = self.leaf(slice, id) else { return Ok(None) };
        make(&leaf)?;
        for (file, value) in limits(resources) {
            let path = leaf.join(file);
            if path.exists() {
                write(&path, &value)?;
            }
        }
        self.protect(slice)?;
        let path = leaf.join("cgroup.procs");
        OpenOptions::new().write(true).open(&path).map(Some).map_err(|source| Error::Read(path, source))
    }

    /// A branch protects as much memory as its leaves together: without it theirs would not count (cgroup-v2.rst, memory.min).
    fn protect(&self, slice: Slice) -> Result<(), Error> {
        let Some(branch) = self.directory.as_ref().map(|top| top.join(slice.name())) else { return Ok(()) };
        let file = branch.join("memory.min");
        if !file.exists() {
            return Ok(());
        }
        let leaf = |path: &Path| fs::read_to_string(path.join("memory.min")).ok()?.trim().parse::<u64>().ok();
        write(&file, &children(&branch).iter().filter_map(|path| leaf(path)).fold(0, u64::saturating_add).to_string())
    }

    /// Sends SIGTERM to every process of a service's leaf; `false` where there is none.
    pub fn terminate(&self, slice: Slice, id: &ServiceId) -> bool {
        self.leaf(slice, id).is_some_and(|leaf| signal(&leaf, Signal::TERM))
    }

    /// Kills every process of a service's leaf; `false` where there is no leaf.
    pub fn kill(&self, slice: Slice, id: &ServiceId) -> bool {
        self.leaf(slice, id).is_some_and(|leaf| fs::write(leaf.join("cgroup.kill"), "1").is_ok())
    }

    /// Removes a service's leaf. With processes left in it, it stays until the next try.
    pub fn remove(&self, slice: Slice, id: &ServiceId) {
        if let Some(leaf) = self.leaf(slice, id) {
            remove_tree(&leaf);
            let _ = self.protect(slice);
        }
    }

    /// Branches other than init's own that still hold processes, by name.
    pub fn occupied(&self) -> Vec<String> {
        let Some(top) = &self.directory else { return Vec::new() };
        let others = children(top).into_iter().filter(|path| !path.ends_with(OWN) && is_populated(path));
        others.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
    }

    /// Sends SIGTERM to whatever runs outside init's own leaf.
    pub fn terminate_others(&self) {
        for path in self.directory.iter().flat_map(|top| children(top)).filter(|path| !path.ends_with(OWN)) {
            signal(&path, Signal::TERM);
        }
    }

    /// Kills whatever runs outside init's own leaf.
    pub fn kill_others(&self) {
        for path in self.directory.iter().flat_map(|top| children(top)).filter(|path| !path.ends_with(OWN)) {
            let _ = fs::write(path.join("cgroup.kill"), "1");
        }
    }

    fn leaf(&self, slice: Slice, id: &ServiceId) -> Option<PathBuf> {
        self.directory.as_ref().map(|top| top.join(slice.name()).join(id.as_str()))
    }
}

/// Files and values; what a spec leaves out gets the kernel's default back.
fn limits(resources: &Resources) -> [(&'static str, String); 4] {
    let or_max = |value: Option<String>| value.unwrap_or_else(|| "max".to_owned());
    [
        ("cpu.weight", resources.cpu_weight.unwrap_or(100).to_string()),
        ("memory.min", resources.memory_min_bytes.unwrap_or(0).to_string()),
        ("memory.max", or_max(resources.memory_max_bytes.map(|bytes| bytes.to_string()))),
        ("pids.max", or_max(resources.pids_max.map(|pids| pids.to_string()))),
    ]
}

fn pass_controllers_on(directory: &Path) -> Result<(), Error> {
    let path = directory.join("cgroup.controllers");
    let there = fs::read_to_string(&path).map_err(|source| Error::Read(path, source))?;
    let wanted = there.split_whitespace().filter(|name| CONTROLLERS.contains(name)).map(|name| format!("+{name}"));
    let wanted: Vec<String> = wanted.collect();
    write(&directory.join("cgroup.subtree_control"), &wanted.join(" "))
}

fn make(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::Make(path.to_owned(), error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path);
    let written = file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    written.map_err(|source| Error::Write { path: path.to_owned(), value: value.to_owned(), source })
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn is_populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

/// Signals every process of a cgroup and of those below it; `false` where there is no such cgroup.
fn signal(path: &Path, signal: Signal) -> bool {
    let Ok(pids) = fs::read_to_string(path.join("cgroup.procs")) else { return false };
    for pid in pids.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        let _ = rustix::process::kill_process(pid, signal);
    }
    for child in children(path) {
        self::signal(&child, signal);
    }
    true
}

fn remove_tree(path: &Path) {
    for child in children(path) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_left_out_are_the_kernels_defaults() {
        let text = |resources: &Resources| limits(resources).map(|(file, value)| format!("{file}={value}")).join(" ");
        assert_eq!(text(&Resources::default()), "cpu.weight=100 memory.min=0 memory.max=max pids.max=max");
        let all = Resources { cpu_weight: Some(200), memory_min_bytes: Some(5), memory_max_bytes: Some(9), pids_max: Some(7) };
        assert_eq!(text(&all), "cpu.weight=200 memory.min=5 memory.max=9 pids.max=7");
    }

    #[test]
    fn tree_is_prepared_and_services_enter_it() {
        // Plain files in the kernel's place: what is written where is the subject here.
        let directory = tempfile::tempdir().expect("temporary directory");
        let top = directory.path();
        for branch in ["", "init", "system", "podruntime", "controlplane", "system/a", "system/b"] {
            fs::create_dir_all(top.join(branch)).expect("make");
            fs::write(top.join(branch).join("cgroup.controllers"), "cpu memory rdma\n").expect("write");
            for file in ["cgroup.subtree_control", "cgroup.procs", "cpu.weight", "memory.min", "memory.max"] {
                fs::write(top.join(branch).join(file), "0").expect("write");
            }
        }
        let cgroups = Cgroups::at(top.to_owned());
        cgroups.prepare().expect("prepare");
        let read = |path: &str| fs::read_to_string(top.join(path)).expect("read");
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory");
        assert_eq!(read("system/cgroup.subtree_control"), "+cpu +memory");
        assert!(read("controlplane/cpu.weight").starts_with("500"));

        let id = |name: &str| ServiceId::new(name).expect("legal");
        for (name, bytes) in [("a", 100), ("b", 23)] {
            let resources = Resources { memory_min_bytes: Some(bytes), ..Resources::default() };
            assert!(cgroups.enter(Slice::System, &id(name), &resources).expect("enter").is_some());
        }
        assert!(read("system/memory.min").starts_with("123"), "the branch protects what its leaves do");
        assert!(read("system/a/memory.max").starts_with("max"));
    }

    #[test]
    fn host_without_cgroups_runs_services_without() {
        let cgroups = Cgroups::at(PathBuf::from("/nowhere"));
        let id = ServiceId::new("a").expect("legal");
        cgroups.prepare().expect("nothing to do");
        assert!(cgroups.enter(Slice::System, &id, &Resources::default()).expect("nothing to do").is_none());
        assert!(!cgroups.kill(Slice::System, &id));
        assert_eq!(cgroups.occupied(), Vec::<String>::new());
    }
}
