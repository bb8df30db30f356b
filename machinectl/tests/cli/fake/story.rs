//! What the fake machine is, and what becomes of it when its image is swapped.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use api::v1::watch_resources_response::Change;
use api::v1::{Object, WatchResourcesResponse};
use serde_json::{Value, json};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use update::{PublicKey, SignedManifest, UpdateFile};

use super::lines::Lines;

/// What becomes of a new image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Blessed,
    FallsBack,
    /// It is proven for ever.
    Open,
}

/// How an upload breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The connection is cut.
    Cut,
    /// The machine heard nothing for too long.
    Stalled,
}

#[derive(Debug)]
pub struct Story {
    pub address: SocketAddr,
    pub hostname: String,
    pub role: &'static str,
    pub profile: &'static str,
    pub version: String,
    pub kubernetes: &'static str,
    /// Of the slot that does not run.
    pub other_kubernetes: &'static str,
    pub slot: &'static str,
    pub boots: usize,
    pub has_etcd: bool,
    /// Its Node, where it has one.
    pub node: Option<String>,
    pub kubeconfig: Option<String>,
    pub trusted: Vec<PublicKey>,
    /// The image that runs, where it is known; and one that lies in its place for all that patches are made against.
    pub running: Option<UpdateFile>,
    pub really: Option<UpdateFile>,
    pub fate: Fate,
    /// Once, after so many chunks, the upload breaks off.
    pub breaks_after: Option<(usize, Break)>,
    /// The connection breaks once, when the reboot is asked for.
    pub cut_at_start: bool,
    pub lines: Lines,
    /// The update that was offered, and the chunks that are there.
    pub offered: Option<SignedManifest>,
    pub chunks: BTreeSet<[u8; 32]>,
    records: Vec<Value>,
}

impl Story {
    pub fn new(address: SocketAddr) -> Story {
        Story {
            address,
            hostname: "cp-1".to_owned(),
            role: "controlPlane",
            profile: "controlplane",
            kubernetes: "v1.37.1",
            other_kubernetes: "v1.37.0",
            version: "0.1.0".to_owned(),
            slot: "a",
            boots: 0,
            has_etcd: true,
            node: None,
            kubeconfig: None,
            trusted: Vec::new(),
            running: None,
            really: None,
            fate: Fate::Blessed,
            breaks_after: None,
            cut_at_start: false,
            lines: Lines::default(),
            offered: None,
            chunks: BTreeSet::new(),
            records: vec![json!({ "number": 1, "kind": "upgrade", "toVersion": "0.1.0", "phase": "cancelled" })],
        }
    }

    pub fn nodes(&self) -> Vec<Object> {
        self.node.iter().map(|name| object("nodes", name, &json!({ "ready": true }))).collect()
    }

    pub fn slots(&self) -> Vec<Object> {
        let slots = [(self.slot, self.kubernetes), (self.other_slot(), self.other_kubernetes)];
        slots.map(|(slot, kubernetes)| object("slots", slot, &json!({ "slot": slot, "kubernetes": kubernetes }))).into()
    }

    pub fn upgrades(&self) -> Vec<Object> {
        self.records.iter().map(|record| object("upgrades", &record["number"].to_string(), record)).collect()
    }

    pub fn other_slot(&self) -> &'static str {
        if self.slot == "a" { "b" } else { "a" }
    }

    /// The running image is on trial and is given up.
    pub fn give_up(&mut self) {
        let record = self.record();
        record["phase"] = "failed".into();
        record["reason"] = json!({ "check": "rollback", "message": "alice asked for a rollback" });
        let version = record["fromVersion"].as_str().expect("a version").to_owned();
        (self.version, self.slot, self.boots) = (version, self.other_slot(), self.boots + 1);
    }

    /// A record of what is under way, unless there is one.
    pub fn begin(&mut self, kind: &str, to_version: &str) {
        if self.record()["endedAt"].is_u64() || self.records.len() == 1 {
            let number = self.records.len() + 1;
            self.records.push(json!({
                "number": number, "kind": kind, "fromVersion": self.version, "toVersion": to_version,
                "fromSlot": self.slot, "toSlot": self.other_slot(), "phase": "writing", "boots": 0,
            }));
        }
    }

    pub fn record(&mut self) -> &mut Value {
        self.records.last_mut().expect("a record")
    }

    pub fn phase(&mut self, phase: &str) {
        self.record()["phase"] = phase.into();
    }

    /// The machine boots the other slot.
    pub fn boot(&mut self) {
        let record = self.record();
        record["boots"] = 1.into();
        record["phase"] = "proving".into();
        let version = record["toVersion"].as_str().expect("a version").to_owned();
        (self.version, self.slot, self.boots) = (version, self.other_slot(), self.boots + 1);
    }

    fn end(&mut self) {
        let fate = self.fate;
        let record = self.record();
        record["endedAt"] = 1.into();
        match fate {
            Fate::Blessed => record["phase"] = "blessed".into(),
            Fate::FallsBack => {
                record["phase"] = "failed".into();
                record["reason"] =
                    json!({ "check": "kubelet", "message": "kubelet ended with status 1", "logTail": ["panic: no", "exit status 1"] });
                let version = record["fromVersion"].as_str().expect("a version").to_owned();
                (self.version, self.slot, self.boots) = (version, self.other_slot(), self.boots + 1);
            }
            Fate::Open => unreachable!("it does not end"),
        }
    }

    /// The records as they are; while one of them is booting or being proven, its next phase follows, until the machine's reboot breaks
    /// the connection.
    pub fn lives_on(&mut self) -> impl Stream<Item = Result<WatchResourcesResponse, Status>> + Send + use<> {
        let put = |object| WatchResourcesResponse { change: Change::Put.into(), object: Some(object) };
        let mut changes: Vec<_> = self.upgrades().into_iter().rev().map(put).collect();
        changes.push(WatchResourcesResponse { change: Change::Synced.into(), object: None });
        let phase = self.record()["phase"].as_str().expect("a phase").to_owned();
        let mut end = Some(Status::unavailable("the machine reboots"));
        match (phase.as_str(), self.fate) {
            ("booting", _) => self.boot(),
            ("proving", Fate::Open) => end = None,
            ("proving", _) => {
                self.end();
                changes.extend(self.upgrades().into_iter().map(put));
            }
            _ => {}
        }
        let rest = futures::stream::once(async move {
            match end {
                Some(status) => Err(status),
                None => std::future::pending().await,
            }
        });
        tokio_stream::iter(changes.into_iter().map(Ok)).chain(rest)
    }
}

fn object(kind: &str, name: &str, status: &Value) -> Object {
    let status = status.as_object().cloned().map(api::json::to_struct);
    Object { kind: kind.to_owned(), name: name.to_owned(), revision: 1, spec: None, status }
}
