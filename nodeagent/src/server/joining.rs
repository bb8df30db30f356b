//! Calls of machines that join, before anything is known of who calls: each address has few turns at a time, a request is short and there whole
//! before anything else is done for it, and whoever is refused waits before the next one is looked at.

use std::net::IpAddr;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::time::timeout;
use tonic::body::Body;

use super::shares::{Shares, Turn};
use crate::refusal::Refusal;

/// A machine that joins asks one thing at a time; the other turn is for one whose connection was lost.
const TURNS_EACH: usize = 2;
/// A dozen signing requests are some 10 KiB.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// How long a turn is kept from whom was refused.
pub const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Joining {
    turns: Shares,
}

impl Default for Joining {
    fn default() -> Joining {
        Joining { turns: Shares::new(TURNS_EACH) }
    }
}

impl Joining {
    /// Waits for a turn, and for the request.
    pub async fn take_in(&self, address: IpAddr, request: Request<Body>) -> Result<(Request<Body>, Turn), Refusal> {
        let turn = self.turns.of(address).acquire_owned().await.map_err(anyhow::Error::from)?;
        let (head, body) = request.into_parts();
        let whole = match timeout(REQUEST_DEADLINE, Limited::new(body, MAX_REQUEST_BYTES).collect()).await {
            Ok(Ok(whole)) => whole.to_bytes(),
            Ok(Err(error)) => return Err(Refusal::field("request", broken(&*error))),
            Err(_) => return Err(Refusal::field("request", format!("it was not there within {} s", REQUEST_DEADLINE.as_secs()))),
        };
        Ok((Request::from_parts(head, Body::new(Full::new(whole))), Turn::from(turn)))
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> String {
    match error.is::<LengthLimitError>() {
        true => format!("longer than {MAX_REQUEST_BYTES} octets; expected a name, addresses and signing requests"),
        false => error.to_string(),
    }
}
