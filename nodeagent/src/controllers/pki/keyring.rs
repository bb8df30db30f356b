//! The certificates and keys of STATE, for those who use them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use controlplane::pki::{self, CertificateId, Issued};
use machine::Root;
use machine::config::Secret;
use rcgen::{KeyPair, PublicKeyData};

use crate::node::Node;
use crate::resources::cluster::Certificate;
use crate::store::Store;

/// Fingerprint of a certificate that is there and good, as the board tells.
pub fn fingerprint(store: &Store, id: CertificateId) -> Option<String> {
    store.get::<Certificate>(id.name()).map(|certificate| certificate.fingerprint)
}

/// Certificates as one reader last saw them; files are read again only when the board tells of others.
#[derive(Debug, Default)]
pub struct Keyring {
    held: BTreeMap<CertificateId, (String, Issued)>,
}

impl Keyring {
    pub fn get(&mut self, node: &Node, id: CertificateId) -> Option<Issued> {
        let current = fingerprint(&node.store, id)?;
        if let Some((fingerprint, issued)) = self.held.get(&id)
            && *fingerprint == current
        {
            return Some(issued.clone());
        }
        let (certificate, key) = paths(&node.root, id);
        let issued = read_pair(&certificate, &key)?;
        self.held.insert(id, (current, issued.clone()));
        Some(issued)
    }

    /// Those of `ids` that are there.
    pub fn all(&mut self, node: &Node, ids: &[CertificateId]) -> BTreeMap<CertificateId, Issued> {
        ids.iter().filter_map(|id| Some((*id, self.get(node, *id)?))).collect()
    }
}

/// Certificate and key of a kind.
fn paths(root: &Root, id: CertificateId) -> (PathBuf, PathBuf) {
    let directory = match id {
        CertificateId::KubeletClient | CertificateId::KubeletServer => root.kubelet_pki(),
        _ => root.pki(),
    };
    (directory.join(format!("{id}.crt")), directory.join(format!("{id}.key")))
}

/// A certificate and its own key; none where either is missing or they do not belong together.
pub fn read_pair(certificate: &Path, key: &Path) -> Option<Issued> {
    let certificate_pem = std::fs::read_to_string(certificate).ok()?;
    let key_pem = std::fs::read_to_string(key).ok()?;
    let pair = KeyPair::from_pem(&key_pem).ok()?;
    let found = pki::Certificate::inspect(&certificate_pem).ok()?;
    (found.public_key == pair.subject_public_key_info()).then(|| Issued { certificate_pem, key_pem: Secret::new(key_pem) })
}
