//! Scrapers that show no certificate but a bearer token: the cluster's API server says whose it is, and whether he may `get` the path, as of its
//! own `/metrics`.

use std::fmt;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Method, Request};
use tokio::time::Instant;

use crate::reviews::{Access, Reviews};
use crate::server::caller::Peer;
use crate::server::shares::{Shares, Turn};

/// Tokens not seen of late that are asked about at a time, for each address.
const TURNS_EACH: usize = 4;
/// How long a turn is kept from whom showed one that is nobody's: each costs the API server a question.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a connection may go on after a good token: a scraper comes again within minutes.
const CONNECTION: Duration = Duration::from_secs(600);

/// Why a token does not do. None of it shows the token.
#[derive(Debug)]
pub enum Refused {
    /// The API server knows nobody by it.
    Nobody,
    MayNot {
        user: String,
        access: Access,
    },
    /// Too many other tokens from the same address are asked about.
    Busy,
    /// The API server did not say.
    Unknown(anyhow::Error),
}

impl Refused {
    /// To the scraper; what keeps the API server from answering is not for strangers.
    pub fn told(&self) -> String {
        match self {
            Refused::Unknown(_) => {
                "whose the token is, and what for, cannot be known now: the cluster's API server does not answer".to_owned()
            }
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Nobody => f.write_str("the cluster's API server knows nobody by this token"),
            Refused::MayNot { user, access } => {
                write!(f, "User {user:?} cannot {access}; a ClusterRole with nonResourceURLs [\"/metrics\"] and verbs [\"get\"] lets him")
            }
            Refused::Busy => f.write_str("too many tokens from this address are asked about; try again in a moment"),
            Refused::Unknown(error) => write!(f, "{error:#}"),
        }
    }
}

#[derive(Debug)]
pub struct Bearers {
    reviews: Reviews,
    turns: Shares,
}

impl Bearers {
    pub fn new(reviews: Reviews) -> Bearers {
        Bearers { reviews, turns: Shares::new(TURNS_EACH) }
    }

    /// Whether whoever shows this token may get the path; his connection may then go on.
    pub async fn admit(&self, token: &str, peer: &Peer, path: &str) -> Result<(), Refused> {
        let user = match self.reviews.known(token) {
            Some(known) => known,
            None => {
                let turn = self.turns.of(peer.address.ip()).try_acquire_owned().map(Turn::from).map_err(|_| Refused::Busy)?;
                let user = self.reviews.user(token).await.map_err(Refused::Unknown)?;
                if user.is_none() {
                    turn.end_after(PAUSE);
                }
                user
            }
        };
        let user = user.ok_or(Refused::Nobody)?;
        let access = Access::Path { path: path.to_owned(), verb: "get" };
        if !self.reviews.permits(&user, &access).await.map_err(Refused::Unknown)? {
            return Err(Refused::MayNot { user: user.name, access });
        }
        peer.proof.give(Instant::now() + CONNECTION);
        Ok(())
    }
}

/// The token of a request that gets something, if it shows one (RFC 6750, 2.1).
pub fn token<B>(request: &Request<B>) -> Option<&str> {
    let shown = request.headers().get(AUTHORIZATION).filter(|_| request.method() == Method::GET)?.to_str().ok()?;
    let (scheme, token) = shown.trim().split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_after_its_scheme() {
        let of = |method: Method, shown: &str| {
            let request = Request::builder().method(method).header(AUTHORIZATION, shown).body(()).unwrap();
            token(&request).map(str::to_owned)
        };
        for shown in ["Bearer abc.def", "bearer abc.def", "BEARER  abc.def "] {
            assert_eq!(of(Method::GET, shown).as_deref(), Some("abc.def"), "{shown}");
        }
        for shown in ["", "Bearer", "Bearer ", "Basic abc.def", "abc.def", "Bearer abc def"] {
            assert_eq!(of(Method::GET, shown), None, "{shown}");
        }
        assert_eq!(of(Method::POST, "Bearer abc.def"), None);
    }
}
