//! What is kept of a local cluster: a folder with its record, disks, configs and keys.

use std::fs;
use std::path::{Path, PathBuf};

use machine::service::ServiceId;
use serde::{Deserialize, Serialize};
use testbed::{Machine, RunningMachine};

use crate::failure::Failure;
use crate::files;

const RECORD: &str = "cluster.json";
pub const CLIENT_CONFIG: &str = crate::verbs::generate::names::CLIENT;
pub const KUBECONFIG: &str = "kubeconfig";

/// A local cluster's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    pub name: String,
    pub directory: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub name: String,
    pub image: PathBuf,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub isolated: bool,
    /// None while it has not been started.
    pub machine: Option<RunningMachine>,
}

impl Record {
    pub fn is_running(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.process.is_alive())
    }
}

impl Folder {
    pub fn new(clusters: &Path, name: &str) -> Result<Folder, Failure> {
        // The same letters as a service's: the name is a folder's and, in the config, a DNS label.
        if ServiceId::new(name).is_err() {
            return Err(Failure::usage("cluster name", format!("{name:?}; expected lower-case letters, digits and dashes")));
        }
        // Absolute: QEMU runs in the folder, and other commands in others.
        let clusters = std::path::absolute(clusters).map_err(|error| Failure::of(clusters.display(), &error))?;
        Ok(Folder { name: name.to_owned(), directory: clusters.join(name) })
    }

    /// All that there are, by name.
    pub fn all(clusters: &Path) -> Result<Vec<Folder>, Failure> {
        let failed = |error: std::io::Error| Failure::of(clusters.display(), &error);
        let mut all = Vec::new();
        let entries = match fs::read_dir(clusters) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            all.extend(Folder::new(clusters, &name).ok().filter(Folder::exists));
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn exists(&self) -> bool {
        self.path(RECORD).is_file()
    }

    pub fn record(&self) -> Result<Record, Failure> {
        if !self.exists() {
            return Err(Failure::new(self.directory.display(), format!("there is no cluster {:?}", self.name))
                .remedy("see `machinectl cluster show`"));
        }
        let path = self.path(RECORD);
        serde_json::from_str(&files::read_text(&path)?).map_err(|error| Failure::of(path.display(), &error))
    }

    pub fn save(&self, record: &Record) -> Result<(), Failure> {
        let path = self.path(RECORD);
        let text = serde_json::to_string_pretty(record).map_err(|error| Failure::of(path.display(), &error))?;
        files::write(&path, &(text + "\n"), files::SECRET)
    }

    /// Ends the machine, if it runs, and removes the folder.
    pub fn remove(&self, record: Record) -> Result<(), Failure> {
        if let Some(machine) = record.machine {
            Machine::attach(machine).quit();
        }
        fs::remove_dir_all(&self.directory).map_err(|error| Failure::of(self.directory.display(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_with_a_record_are_clusters() {
        let clusters = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(clusters.path().join("stray")).expect("directory");
        let folder = Folder::new(clusters.path(), "demo").expect("a folder");
        assert!(folder.record().expect_err("none yet").to_string().contains("there is no cluster \"demo\""));
        let record = Record {
            name: "demo".to_owned(),
            image: "/disk.qcow2".into(),
            cpus: 2,
            memory_bytes: 1,
            disk_bytes: 2,
            isolated: true,
            machine: None,
        };
        folder.save(&record).expect("save");
        assert_eq!(folder.record().expect("read"), record);
        let names: Vec<_> = Folder::all(clusters.path()).expect("all").into_iter().map(|folder| folder.name).collect();
        assert_eq!(names, ["demo"]);
        assert!(!record.is_running());
        folder.remove(record).expect("remove");
        assert!(!folder.directory.exists() && clusters.path().join("stray").exists());
        assert!(Folder::all(&clusters.path().join("none")).expect("none").is_empty());
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        for wrong in ["", "..", "a/b", "A", "-a"] {
            assert!(Folder::new(Path::new("/clusters"), wrong).is_err(), "{wrong}");
        }
    }
}
