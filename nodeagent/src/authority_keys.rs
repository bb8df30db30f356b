//! The authorities' keys that a control plane got from another one when it joined: on STATE, and in the config that controllers see. The
//! machine's own document stays as it was applied.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use controlplane::pki::{Authority, AuthorityId, Certificate};
use machine::Root;
use machine::config::{CertificateAuthorities, Config, Role};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::node::Node;
use crate::resources::authorities::HeldKey;
use crate::state_record::{self, Versioned};

/// What lies on STATE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityKeys {
    /// Always 1.
    pub version: u32,
    /// Each with its key.
    pub authorities: CertificateAuthorities,
}

impl Versioned for AuthorityKeys {
    const VERSION: u32 = 1;
}

/// `None`: none were got.
pub fn load(root: &Root) -> anyhow::Result<Option<AuthorityKeys>> {
    Ok(state_record::read(&root.authority_keys())?)
}

/// Writes them to STATE, for good, and then has the controllers see them.
pub fn save(node: &Node, authorities: CertificateAuthorities) -> anyhow::Result<()> {
    let keys = AuthorityKeys { version: AuthorityKeys::VERSION, authorities };
    files::write(&node.root.authority_keys(), &serde_json::to_vec(&keys)?, 0o600)?;
    hold(node, keys);
    Ok(())
}

/// Has the controllers see them; the board, which holds no secrets, wakes those who look.
pub fn hold(node: &Node, keys: AuthorityKeys) {
    let status = |id: AuthorityId| {
        let certificate = Certificate::inspect(&id.of(&keys.authorities).certificate).ok()?;
        Some((id.name().to_owned(), HeldKey::of(&certificate, &id.of(&keys.authorities).certificate)))
    };
    let told: Vec<_> = AuthorityId::ALL.into_iter().filter_map(status).collect();
    node.authority_keys.set(keys);
    node.store.replace(told);
}

/// The keys in memory, and the last config that they were put into: it is asked for at each look of each controller.
#[derive(Default)]
pub struct Held(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    keys: Option<AuthorityKeys>,
    completed: Option<(Arc<Config>, Arc<Config>)>,
}

impl Held {
    fn set(&self, keys: AuthorityKeys) {
        *self.lock() = Inner { keys: Some(keys), completed: None };
    }

    /// The config with the keys that it lacks, on a control plane.
    pub fn complete(&self, document: Arc<Config>) -> Arc<Config> {
        let mut inner = self.lock();
        if let Some((from, completed)) = &inner.completed
            && Arc::ptr_eq(from, &document)
        {
            return completed.clone();
        }
        let Some(keys) = &inner.keys else { return document };
        let completed = Arc::new(complete(&document, keys));
        inner.completed = Some((document, completed.clone()));
        completed
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

/// A key is put in where it belongs to a certificate of the config: one of another cluster's, or of an authority that was changed, does not.
fn complete(document: &Config, keys: &AuthorityKeys) -> Config {
    let mut config = document.clone();
    if config.machine.role != Role::ControlPlane {
        return config;
    }
    for id in AuthorityId::ALL {
        let authority = id.of_mut(&mut config.cluster.certificate_authorities);
        let held = id.of(&keys.authorities).key.as_ref();
        if authority.key.is_none() && held.is_some_and(|key| Authority::from_pem(&authority.certificate, key.reveal()).is_ok()) {
            authority.key = held.cloned();
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use controlplane::generate::{Options, generate};
    use controlplane::secrets::Secrets;
    use machine::config::Document;

    use super::*;
    use crate::init_client::InitClient;

    fn config(document: Document) -> Arc<Config> {
        Arc::new(Config { cluster: document.cluster, machine: document.machine })
    }

    #[test]
    fn a_control_plane_gets_what_belongs_to_its_authorities_and_keeps_it() {
        let (secrets, foreign) = (Secrets::generate(SystemTime::now()).unwrap(), Secrets::generate(SystemTime::now()).unwrap());
        let configs = generate("demo", "https://192.0.2.10:6443", &secrets, &Options::new(SystemTime::now())).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let node = Node::new(Root::new(directory.path()), InitClient::new(directory.path().join("init.sock")));
        let (further, worker) = (config(configs.controlplane_join), config(configs.worker));
        assert!(Arc::ptr_eq(&node.authority_keys.complete(further.clone()), &further));
        assert_eq!(load(&node.root).unwrap(), None);

        save(&node, foreign.certificate_authorities).unwrap();
        assert_eq!(node.authority_keys.complete(further.clone()), further);
        save(&node, secrets.certificate_authorities.clone()).unwrap();
        let completed = node.authority_keys.complete(further.clone());
        assert_eq!(completed.cluster.certificate_authorities, secrets.certificate_authorities);
        assert!(Arc::ptr_eq(&node.authority_keys.complete(further), &completed));
        assert_eq!(node.authority_keys.complete(worker.clone()), worker);
        assert_eq!(load(&node.root).unwrap().unwrap().authorities, secrets.certificate_authorities);
        let text = serde_json::to_string(
            &node.store.list(<HeldKey as crate::store::Resource>::KIND).iter().map(|object| &object.value).collect::<Vec<_>>(),
        );
        assert!(!text.unwrap().contains("PRIVATE"));
    }
}
