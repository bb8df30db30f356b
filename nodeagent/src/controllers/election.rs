//! Elections in etcd: a key that whoever made it keeps alive by a lease (services KV and Lease in api/etcdserverpb/rpc.proto). A seat is what
//! is held by one control plane at a time: the virtual IP, or a task that one of them sees to.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::etcd::{Access, Connections, ask_once, ask_within};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// After it, whoever does not answer is no longer the holder. etcd may make it longer: not shorter than one and a half elections of its own.
const TTL: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(3);

/// An election that was won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    seat: String,
    by: String,
    lease: i64,
    /// By this machine's clock; etcd's runs from a moment later.
    until: Instant,
    pub renewed: Instant,
}

impl Claim {
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// It lasts no longer for that; the next question waits for its beat.
    pub fn asked_in_vain(self) -> Claim {
        Claim { renewed: Instant::now(), ..self }
    }

    /// One of this machine's, of which no more is known: it counts once it is renewed.
    pub fn of_before(seat: String, by: String, lease: i64) -> Claim {
        let now = Instant::now();
        Claim { seat, by, lease, until: now, renewed: now }
    }
}

#[derive(Debug, Default)]
pub struct Election {
    connections: Connections,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(int64, tag = "6")]
    lease: i64,
}

/// Result EQUAL (0) of target CREATE (1).
#[derive(Clone, PartialEq, prost::Message)]
struct Compare {
    #[prost(int32, tag = "1")]
    result: i32,
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
    #[prost(int64, optional, tag = "5")]
    create_revision: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int64, tag = "3")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestOp {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TxnResponse {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

/// LeaseGrantResponse and LeaseKeepAliveResponse.
#[derive(Clone, PartialEq, prost::Message)]
struct Lease {
    #[prost(int64, tag = "2")]
    id: i64,
    /// 0 for one that is over.
    #[prost(int64, tag = "3")]
    ttl: i64,
}

/// LeaseRevokeRequest and LeaseKeepAliveRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct OfLease {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// Outside of /registry, which is Kubernetes'.
fn key(seat: &str) -> Vec<u8> {
    format!("/corten/{seat}").into_bytes()
}

impl Lease {
    fn until(&self, asked: Instant) -> Instant {
        asked + Duration::from_secs(self.ttl.unsigned_abs())
    }
}

impl Election {
    fn kept<'a>(&'a self, access: Access<'a>) -> Access<'a> {
        Access { kept: Some(&self.connections), ..access }
    }

    /// Who holds the seat and by which lease, as the cluster agrees on.
    pub async fn holder(&self, access: Access<'_>, seat: &str) -> anyhow::Result<Option<(String, i64)>> {
        let found: RangeResponse = ask_within(self.kept(access), DEADLINE, RANGE, RangeRequest { key: key(seat) }).await?;
        Ok(found.kvs.into_iter().next().map(|kv| (String::from_utf8_lossy(&kv.value).into_owned(), kv.lease)))
    }

    /// None where somebody else was faster.
    pub async fn claim(&self, access: Access<'_>, seat: &str, by: &str) -> anyhow::Result<Option<Claim>> {
        let asked = Instant::now();
        let ttl = i64::try_from(TTL.as_secs())?;
        let lease: Lease = ask_within(self.kept(access), DEADLINE, GRANT, GrantRequest { ttl }).await?;
        let put = PutRequest { key: key(seat), value: by.as_bytes().to_vec(), lease: lease.id };
        let compare = Compare { result: 0, target: 1, key: key(seat), create_revision: Some(0) };
        let txn = TxnRequest { compare: vec![compare], success: vec![RequestOp { put: Some(put) }] };
        let answer: TxnResponse = ask_within(self.kept(access), DEADLINE, TXN, txn).await?;
        let claim = Claim { seat: seat.to_owned(), by: by.to_owned(), lease: lease.id, until: lease.until(asked), renewed: asked };
        if answer.succeeded {
            return Ok(Some(claim));
        }
        self.resign(access, &claim).await?;
        Ok(None)
    }

    /// None where it is over. That the key is still this machine's is asked as well: a leader that was cut off from the others would renew a
    /// lease that they let end.
    pub async fn renew(&self, access: Access<'_>, claim: &Claim) -> anyhow::Result<Option<Claim>> {
        let asked = Instant::now();
        let lease: Lease = ask_once(self.kept(access), DEADLINE, KEEP_ALIVE, OfLease { id: claim.lease }).await?;
        if lease.ttl <= 0 || self.holder(access, &claim.seat).await? != Some((claim.by.clone(), claim.lease)) {
            return Ok(None);
        }
        Ok(Some(Claim { until: lease.until(asked), renewed: asked, ..claim.clone() }))
    }

    pub async fn resign(&self, access: Access<'_>, claim: &Claim) -> anyhow::Result<()> {
        let revoked = ask_within(self.kept(access), DEADLINE, REVOKE, OfLease { id: claim.lease }).await;
        revoked.map(|_: Nothing| ()).with_context(|| format!("giving up {}", claim.seat))
    }
}
