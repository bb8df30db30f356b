//! What is kept of a local cluster: a folder with its record, its machines' folders, configs and keys.

mod record;

use std::fs;
use std::path::{Path, PathBuf};

use machine::service::ServiceId;
use testbed::Machine;

use super::switch;
use crate::failure::Failure;
use crate::files;
pub use record::{Member, Record};

const RECORD: &str = "cluster.json";
pub const CLIENT_CONFIG: &str = crate::verbs::generate::names::CLIENT;
pub const KUBECONFIG: &str = "kubeconfig";
/// A machine's config, in its own folder.
pub const CONFIG: &str = "config.yaml";

/// A local cluster's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    pub name: String,
    pub directory: PathBuf,
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

    /// Where a machine has its files.
    pub fn of(&self, member: &Member) -> PathBuf {
        member.machine.as_ref().map_or_else(|| self.path(&member.name()), |machine| machine.directory.clone())
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
        Record::read(&files::read_text(&path)?).map_err(|error| Failure::of(path.display(), &error))
    }

    pub fn save(&self, record: &Record) -> Result<(), Failure> {
        let path = self.path(RECORD);
        let text = serde_json::to_string_pretty(record).map_err(|error| Failure::of(path.display(), &error))?;
        files::write(&path, &(text + "\n"), files::SECRET)
    }

    /// Ends the machines that run, and their segment, and removes the folder.
    pub fn remove(&self, record: Record) -> Result<(), Failure> {
        for machine in record.machines.into_iter().filter_map(|member| member.machine) {
            Machine::attach(machine).quit();
        }
        if let Some(switch) = record.switch {
            switch::end(&self.directory, &switch);
        }
        fs::remove_dir_all(&self.directory).map_err(|error| Failure::of(self.directory.display(), &error))
    }
}

#[cfg(test)]
pub mod tests {
    pub use super::record::tests::{record, running};
    use super::*;

    #[test]
    fn only_folders_with_a_record_are_clusters() {
        let clusters = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(clusters.path().join("stray")).expect("directory");
        let folder = Folder::new(clusters.path(), "demo").expect("a folder");
        assert!(folder.record().expect_err("none yet").to_string().contains("there is no cluster \"demo\""));
        let record = record();
        folder.save(&record).expect("save");
        assert_eq!(folder.record().expect("read"), record);
        let names: Vec<_> = Folder::all(clusters.path()).expect("all").into_iter().map(|folder| folder.name).collect();
        assert_eq!(names, ["demo"]);
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
