//! What rendering a control-plane service yields.

use std::path::{Path, PathBuf};

use machine::Root;
use machine::account::Account;
use machine::config::Secret;
use machine::file::File;
use machine::service::ServiceSpec;

use crate::pki::{CertificateId, Issued};

/// A service as values: write the files, then put the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub files: Vec<File>,
    /// Its `files_digest` covers the files that the program reads only at its start; it reloads the others by itself.
    pub service: ServiceSpec,
}

#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("certificate {0} is not there yet")]
    MissingCertificate(CertificateId),
    #[error("{0} is not there yet")]
    MissingKey(&'static str),
    #[error("the machine has no address that other nodes reach it by yet")]
    MissingNodeIp,
    #[error("cluster.etcd.extraArgs.{flag}: {value:?} is no duration; expected one such as 100ms or 10s")]
    BadDuration { flag: String, value: String },
    #[error("{field}: {found}; expected {expected}")]
    BadField { field: String, found: String, expected: &'static str },
    #[error("writing {what} as YAML")]
    Yaml {
        what: &'static str,
        #[source]
        source: Box<serde_saphyr::SerializeError>,
    },
}

/// Collects one service's files in its directory.
pub(crate) struct Files {
    directory: PathBuf,
    account: Account,
    files: Vec<File>,
    /// Indices of those that are read only at the start.
    at_start: Vec<usize>,
}

/// Whether a running program notices a new version of a file by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    AtStart,
    Again,
}

impl Files {
    pub fn new(root: &Root, service: &str, account: Account) -> Files {
        Files { directory: root.control_plane().join(service), account, files: Vec::new(), at_start: Vec::new() }
    }

    pub fn add(&mut self, name: &str, contents: impl Into<Vec<u8>>, read: Read) -> PathBuf {
        let path = self.directory.join(name);
        if read == Read::AtStart {
            self.at_start.push(self.files.len());
        }
        self.files.push(File { path: path.clone(), mode: 0o600, account: self.account, contents: contents.into() });
        path
    }

    pub fn add_secret(&mut self, name: &str, contents: &Secret, read: Read) -> PathBuf {
        self.add(name, contents.reveal(), read)
    }

    /// `<name>.crt` and `<name>.key`. Every service here reads its own certificates again when they change.
    pub fn add_issued(&mut self, name: &str, issued: &Issued) -> (PathBuf, PathBuf) {
        let certificate = self.add(&format!("{name}.crt"), issued.certificate_pem.as_str(), Read::Again);
        let key = self.add_secret(&format!("{name}.key"), &issued.key_pem, Read::Again);
        (certificate, key)
    }

    pub fn into_rendered(self, mut service: ServiceSpec) -> Rendered {
        service.files_digest = machine::file::digest(self.at_start.iter().map(|index| &self.files[*index]));
        Rendered { files: self.files, service }
    }
}

/// A path as a flag or a configuration file says it.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
