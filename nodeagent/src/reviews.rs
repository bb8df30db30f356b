//! Asks the API server whose a token is (TokenReview) and whether somebody may do something (SubjectAccessReview), as kubelets and extension API
//! servers do. Answers are kept for a while, and so many at most.

mod kept;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use controlplane::pki::{CertificateId, Issued};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kept::Kept;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::controllers::api;
use crate::controllers::machine::Machine;
use crate::controllers::pki::Keyring;
use crate::node::Node;

/// As long as upstream's extension API servers keep theirs (k8s.io/apiserver, DelegatingAuthorizationOptions).
const KEPT: Duration = Duration::from_secs(10);
/// A token that was found good stays so, as long as for the kubelet (authentication.webhook.cacheTTL).
const TOKEN_KEPT: Duration = Duration::from_secs(120);
const DEADLINE: Duration = Duration::from_secs(5);
/// Questions under way at a time.
const QUESTIONS: usize = 16;

/// Who somebody is, as the API server knows him.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    /// What authenticators tell besides, for authorizers that ask for it.
    pub extra: BTreeMap<String, Vec<String>>,
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
    /// By the token's digest: tokens themselves are not kept. None: nobody's.
    users: Mutex<Kept<[u8; 32], Option<User>>>,
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
        let connection = Mutex::default();
        let questions = Semaphore::new(QUESTIONS);
        Reviews(Arc::new(Inner { node, connection, questions, granted: Mutex::default(), users: Mutex::default() }))
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
        lock(&self.0.granted).put(key, permitted, Instant::now() + KEPT);
        Ok(permitted)
    }

    /// What is known of a token without asking: whose it is, if anybody's.
    pub fn known(&self, token: &str) -> Option<Option<User>> {
        lock(&self.0.users).get(&digest(token), Instant::now())
    }

    /// Whose the token is by the API server's word; `None` where it is nobody's.
    pub async fn user(&self, token: &str) -> anyhow::Result<Option<User>> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.ask(&review).await.context("asking whose a token is (TokenReview)")?;
        let user = user(answer);
        let kept = if user.is_some() { TOKEN_KEPT } else { KEPT };
        lock(&self.0.users).put(digest(token), user.clone(), Instant::now() + kept);
        Ok(user)
    }

    /// Errors have nothing of the question or the answer in them, since there may be a token in both.
    async fn ask<K>(&self, review: &K) -> anyhow::Result<K>
    where
        K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let client = self.client()?;
        let request = kube::core::Request::new(K::url_path(&(), None));
        let request = request.create(&PostParams::default(), serde_json::to_vec(review)?)?;
        let asked = async {
            let _turn = self.0.questions.acquire().await;
            client.request_text(request).await
        };
        let answer = timeout(DEADLINE, asked).await.with_context(|| format!("no answer within {} s", DEADLINE.as_secs()))??;
        serde_json::from_str(&answer).ok().context("the answer is no review")
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

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The API server names nobody whom it has not authenticated.
fn user(review: TokenReview) -> Option<User> {
    let status = review.status.filter(|status| status.authenticated == Some(true))?;
    let user = status.user?;
    let name = user.username.filter(|name| !name.is_empty())?;
    Some(User { name, uid: user.uid.unwrap_or_default(), groups: user.groups.unwrap_or_default(), extra: user.extra.unwrap_or_default() })
}

fn question(user: &User, access: &Access) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

    use super::*;

    #[test]
    fn a_token_is_somebodys_only_if_the_api_server_says_so_and_says_whose() {
        let answer = |authenticated, username: Option<&str>| {
            let user = UserInfo { username: username.map(str::to_owned), groups: Some(vec!["g".to_owned()]), ..UserInfo::default() };
            let status = TokenReviewStatus { authenticated, user: Some(user), ..TokenReviewStatus::default() };
            user_of(Some(status))
        };
        assert_eq!(answer(Some(true), Some("ann")).map(|user| (user.name, user.groups)), Some(("ann".to_owned(), vec!["g".to_owned()])));
        for (authenticated, name) in [(Some(false), Some("ann")), (None, Some("ann")), (Some(true), None), (Some(true), Some(""))] {
            assert_eq!(answer(authenticated, name), None, "{authenticated:?} {name:?}");
        }
        assert_eq!(user_of(None), None);
    }

    fn user_of(status: Option<TokenReviewStatus>) -> Option<User> {
        user(TokenReview { status, ..TokenReview::default() })
    }
}
