//! Writes and reads keys, as the API server would (service KV in api/etcdserverpb/rpc.proto).

use std::collections::BTreeMap;

use super::super::{Access, ask};

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// PutResponse and DeleteRangeResponse.
#[derive(Clone, PartialEq, prost::Message)]
struct Changed {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

/// RangeRequest and DeleteRangeRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    /// Of RangeRequest alone.
    #[prost(bool, tag = "9")]
    count_only: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    count: i64,
}

/// The revision from which on it is there.
pub async fn put(access: Access<'_>, key: &str, value: &str) -> anyhow::Result<u64> {
    let question = PutRequest { key: key.into(), value: value.into() };
    let answer: Changed = ask(access, "/etcdserverpb.KV/Put", question).await?;
    Ok(answer.header.unwrap().revision as u64)
}

pub async fn delete(access: Access<'_>, key: &str) -> anyhow::Result<u64> {
    let question = RangeRequest { key: key.into(), range_end: Vec::new(), count_only: false };
    let answer: Changed = ask(access, "/etcdserverpb.KV/DeleteRange", question).await?;
    Ok(answer.header.unwrap().revision as u64)
}

/// All that there are.
pub async fn all(access: Access<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let answer: RangeResponse =
        ask(access, "/etcdserverpb.KV/Range", RangeRequest { key: vec![0], range_end: vec![0], count_only: false }).await?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ok(answer.kvs.into_iter().map(|pair| (text(pair.key), text(pair.value))).collect())
}

/// How many there are.
pub async fn count(access: Access<'_>) -> anyhow::Result<i64> {
    let question = RangeRequest { key: vec![0], range_end: vec![0], count_only: true };
    let answer: RangeResponse = ask(access, "/etcdserverpb.KV/Range", question).await?;
    Ok(answer.count)
}
