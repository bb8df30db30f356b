//! Which files a log consists of, oldest first, and how their lines are shown.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use machine::Root;

/// A log as its writer lays it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// init's: `<id>.log.2`, `<id>.log.1`, `<id>.log`; in /run until EPHEMERAL is open, then in /var, where init takes the first lines along.
    Service { early: PathBuf, kept: PathBuf, id: String },
    /// The kubelet's: a directory with `<restarts>.log.<date>`, then `<restarts>.log`, for each time the container was started.
    Container { directory: PathBuf },
}

impl Layout {
    pub fn service(root: &Root, id: &str) -> Layout {
        Layout::Service { early: root.early_log_directory(), kept: root.log_directory(), id: id.to_owned() }
    }

    /// The log of a container, in `<namespace>_<pod>_<uid>/<container>`; of several pods of one name the newest.
    pub fn container(root: &Root, namespace: &str, pod: &str, container: &str) -> Option<Layout> {
        let prefix = format!("{namespace}_{pod}_");
        let pods = fs::read_dir(root.pod_log_directory()).ok()?;
        let pods = pods.filter_map(Result::ok).filter(|pod| pod.file_name().to_string_lossy().starts_with(&prefix));
        let directories = pods.map(|pod| pod.path().join(container)).filter(|directory| directory.is_dir());
        let directory = directories.max_by_key(|directory| directory.metadata().and_then(|metadata| metadata.modified()).ok())?;
        Some(Layout::Container { directory })
    }

    /// Every directory where files may appear.
    pub fn directories(&self) -> Vec<&Path> {
        match self {
            Layout::Service { early, kept, .. } => vec![kept, early],
            Layout::Container { directory } => vec![directory],
        }
    }

    /// The files there are, oldest first: all of one directory.
    pub fn files(&self) -> Vec<PathBuf> {
        self.directories().into_iter().map(|directory| self.files_in(directory)).find(|files| !files.is_empty()).unwrap_or_default()
    }

    fn files_in(&self, directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
        let mut aged: Vec<(Age, OsString)> = entries.filter_map(|name| Some((self.age(name.to_str()?)?, name))).collect();
        aged.sort();
        aged.into_iter().map(|(_, name)| directory.join(name)).collect()
    }

    /// Where a file stands among the others; `None` for one that is not part of the log.
    fn age(&self, name: &str) -> Option<Age> {
        match self {
            Layout::Service { id, .. } => {
                let rest = name.strip_prefix(id.as_str())?.strip_prefix(".log")?;
                let age = if rest.is_empty() { 0 } else { rest.strip_prefix('.')?.parse::<u32>().ok()? };
                // The higher the number, the older the file.
                Some(Age { starts: 0, rotated: format!("{:010}", u32::MAX - age) })
            }
            Layout::Container { .. } => {
                let (starts, rest) = name.split_once(".log")?;
                // The current one comes after all that were rotated away; the kubelet compresses all rotated ones but the newest.
                let rotated = if rest.is_empty() { "~".to_owned() } else { rest.strip_prefix('.')?.to_owned() };
                (!rotated.ends_with(".gz") && !rotated.ends_with(".tmp")).then_some(Age { starts: starts.parse().ok()?, rotated })
            }
        }
    }

    /// Whole lines as users see them.
    pub fn show(&self, lines: Vec<u8>) -> Vec<u8> {
        match self {
            Layout::Service { .. } => lines,
            Layout::Container { .. } => lines.split_inclusive(|byte| *byte == b'\n').flat_map(content).copied().collect(),
        }
    }
}

/// Sorts files of a log.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    starts: u64,
    rotated: String,
}

/// What a container wrote: the line without time, stream and tag; without its end where the tag says that the line goes on (CRI's format).
fn content(line: &[u8]) -> &[u8] {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (_time, _stream) = (parts.next(), parts.next());
    match (parts.next(), parts.next()) {
        (Some(b"P"), Some(content)) => content.strip_suffix(b"\n").unwrap_or(content),
        (Some(_), Some(content)) => content,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layout: &Layout) -> Vec<String> {
        layout.files().iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn files_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.log_directory()).unwrap();
        for name in ["etcd.log.1", "etcd.log", "etcd.log.10", "etcd.log.2", "etcd.logs", "etcd-2.log", "etcd.log.x"] {
            fs::write(root.log_directory().join(name), "").unwrap();
        }
        assert_eq!(names(&Layout::service(&root, "etcd")), ["etcd.log.10", "etcd.log.2", "etcd.log.1", "etcd.log"]);
        assert_eq!(names(&Layout::service(&root, "kubelet")), Vec::<String>::new());

        let pod = root.pod_log_directory().join("default_web_1234/nginx");
        fs::create_dir_all(&pod).unwrap();
        for name in ["1.log", "0.log", "0.log.20260101-000000", "0.log.20250101-000000.gz", "0.log.20251231-000000"] {
            fs::write(pod.join(name), "").unwrap();
        }
        let layout = Layout::container(&root, "default", "web", "nginx").unwrap();
        assert_eq!(names(&layout), ["0.log.20251231-000000", "0.log.20260101-000000", "0.log", "1.log"]);
        assert_eq!(Layout::container(&root, "default", "we", "nginx"), None);
    }

    #[test]
    fn container_lines_are_shown_without_their_frame() {
        let layout = Layout::Container { directory: PathBuf::new() };
        let lines = b"2026-01-01T00:00:00Z stdout F one two\n2026-01-01T00:00:00Z stderr P thr\n2026-01-01T00:00:00Z stderr F ee\nodd\n";
        assert_eq!(String::from_utf8(layout.show(lines.to_vec())).unwrap(), "one two\nthree\nodd\n");
    }
}
