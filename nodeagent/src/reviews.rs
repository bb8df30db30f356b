//! Asks the API server whether somebody may do something, as kubelets and extension API servers do (SubjectAccessReview). Answers are kept for a few
//! seconds, and so many at most.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::{CertificateId, Issued};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::node::Node;

/// As long as upstream's extension API servers keep theirs (k8s.io/apiserver, DelegatingAuthorizationOptions).
const KEPT: Duration = Duration::from_secs(10);
const MOST_KEPT: usize = 2048;
const DEADLINE: Duration = Duration::from_secs(5);
/// Questions under way at a time.
const QUESTIONS: usize = 16;

/// Who somebody is, as the API server knows him.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Access {
    /// Of a path that is no resource's.
    Path {
        path: String,
        verb: &'static str,
    },
    Resource {
        verb: &'static str,
        group: &'static str,
        version: &'static str,
        resource: &'static str,
        place: Place,
    },
}

/// As the API server's own refusals have it: `list pods of metrics.k8s.io in namespace shop`.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Path { path, verb } => write!(f, "{verb} {path}"),
            Access::Resource { verb, group, resource, place, .. } => {
                write!(f, "{verb} {resource}")?;
                place.subresource.iter().try_for_each(|subresource| write!(f, "/{subresource}"))?;
                place.name.iter().try_for_each(|name| write!(f, " {name:?}"))?;
                write!(f, " of {group}")?;
                place.namespace.iter().try_for_each(|namespace| write!(f, " in namespace {namespace:?}"))
            }
        }
    }
}

/// Which of a resource. None: all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Reviews(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Node,
    connection: Mutex<Connection>,
    questions: Semaphore,
    granted: Mutex<Kept<(User, Access), bool>>,
}

/// A client that is made anew when what it was made of changes.
#[derive(Default)]
struct Connection {
    keyring: Keyring,
    /// Of the authority's certificate and its own.
    made: Option<(String, Issued, kube::Client)>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Reviews {
    pub fn new(node: Node) -> Reviews {
        Reviews(Arc::new(Inner { node, connection: Mutex::default(), questions: Semaphore::new(QUESTIONS), granted: Mutex::default() }))
    }

    /// Whether the cluster's authorisation lets somebody do it.
    pub async fn permits(&self, user: &User, access: &Access) -> anyhow::Result<bool> {
        let key = (user.clone(), access.clone());
        if let Some(known) = lock(&self.0.granted).get(&key, Instant::now()) {
            return Ok(known);
        }
        let review = SubjectAccessReview { spec: question(user, access), ..SubjectAccessReview::default() };
        let answer = self.ask(&review).await.context("asking whether somebody may have it (SubjectAccessReview)")?;
        let permitted = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        lock(&self.0.granted).put(key, permitted, Instant::now());
        Ok(permitted)
    }

    async fn ask(&self, review: &SubjectAccessReview) -> anyhow::Result<SubjectAccessReview> {
        let client = self.client()?;
        let asked = async {
            let _turn = self.0.questions.acquire().await;
            Api::all(client).create(&PostParams::default(), review).await
        };
        Ok(timeout(DEADLINE, asked).await.with_context(|| format!("no answer within {} s", DEADLINE.as_secs()))??)
    }

    fn client(&self) -> anyhow::Result<kube::Client> {
        let machine = Machine::observe(&self.0.node).ok().context("this machine has no config")?;
        let mut connection = lock(&self.0.connection);
        let issued = connection.keyring.get(&self.0.node, CertificateId::Agent).context("certificate agent is not there yet")?;
        let authority = &machine.config.cluster.certificate_authorities.kubernetes.certificate;
        if let Some((by, of, client)) = &connection.made
            && (by, of) == (authority, &issued)
        {
            return Ok(client.clone());
        }
        let client = api::balanced(&machine.config, &issued)?.kube().clone();
        connection.made = Some((authority.clone(), issued, client.clone()));
        Ok(client)
    }
}

fn question(user: &User, access: &Access) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        ..SubjectAccessReviewSpec::default()
    };
    match access {
        Access::Path { path, verb } => {
            spec.non_resource_attributes = Some(NonResourceAttributes { path: Some(path.clone()), verb: Some((*verb).to_owned()) });
        }
        Access::Resource { verb, group, version, resource, place } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: Some((*verb).to_owned()),
                group: Some((*group).to_owned()),
                version: Some((*version).to_owned()),
                resource: Some((*resource).to_owned()),
                namespace: place.namespace.clone(),
                name: place.name.clone(),
                subresource: place.subresource.clone(),
                ..ResourceAttributes::default()
            });
        }
    }
    spec
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers, and until when each holds.
#[derive(Debug)]
struct Kept<K, V>(HashMap<K, (V, Instant)>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Kept<K, V> {
        Kept(HashMap::new())
    }
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.0.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value.clone())
    }

    /// Where there are too many, those that are out of date go, and should that not do, all.
    fn put(&mut self, key: K, value: V, now: Instant) {
        if self.0.len() >= MOST_KEPT {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= MOST_KEPT {
            self.0.clear();
        }
        self.0.insert(key, (value, now + KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_a_while_and_never_too_many() {
        let (mut kept, now) = (Kept::default(), Instant::now());
        kept.put(0, true, now);
        assert_eq!((kept.get(&0, now), kept.get(&0, now + KEPT), kept.get(&1, now)), (Some(true), None, None));
        for key in 0..10 * MOST_KEPT {
            kept.put(key, true, now);
            assert!(kept.0.len() <= MOST_KEPT && kept.get(&key, now) == Some(true));
        }
    }
}
