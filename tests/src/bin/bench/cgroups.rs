//! Cgroups of this host to measure with.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where cgroup v2 is mounted.
pub fn mount() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, path, "cgroup2", ..] => Some(path),
        _ => None,
    });
    Ok(PathBuf::from(mount.context("this host has no cgroup v2")?))
}

/// Cgroups as the kubelet makes them, in a subtree that goes with the value.
pub struct Tree(PathBuf);

impl Tree {
    /// Containers, each in a pod of its own.
    pub fn make(count: usize) -> anyhow::Result<Tree> {
        let tree = Tree(mount()?.join(format!("corten-bench-{}", std::process::id())));
        for number in 0..count {
            let container = tree.container(number);
            fs::create_dir_all(&container).with_context(|| format!("making {}: this needs root", container.display()))?;
        }
        Ok(tree)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn container(&self, number: usize) -> PathBuf {
        self.0.join(format!("kubepods/besteffort/pod{number:032x}/{number:064x}"))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fn remove(path: &Path) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            let _ = fs::remove_dir(path);
        }
        remove(&self.0);
    }
}
