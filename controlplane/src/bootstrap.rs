//! Bootstrap: how a control plane's etcd may start, and what is done once per cluster.
//!
//! A power cut at any point leaves a record from which the same plan follows again, so the call can be repeated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::etcd::MemberId;

/// What is written to STATE. Its version lets an older release read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Always 1.
    pub version: u32,
    pub cluster: String,
    /// etcd's name of this member.
    pub member: String,
    pub origin: Origin,
    pub progress: Progress,
    /// etcd's identity of this member; none before it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// Of one that joined: peer URLs by name, as etcd is started with; they stay as they are once it has data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Vec<String>>,
    /// Of one that made a cluster out of a snapshot: what tells that cluster from the one of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// How this machine came to its etcd member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// It made the cluster.
    Bootstrap,
    /// It joined one.
    Join,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// etcd may make its data now.
    Started,
    /// The API server served and the first manifests are in it; or the member that joined has a vote: from now on missing data is a loss.
    Completed,
}

impl Record {
    pub const VERSION: u32 = 1;

    pub fn started(cluster: &str, member: &str) -> Record {
        let (cluster, member) = (cluster.to_owned(), member.to_owned());
        Record {
            version: Record::VERSION,
            cluster,
            member,
            origin: Origin::Bootstrap,
            progress: Progress::Started,
            member_id: None,
            members: BTreeMap::new(),
            token: None,
        }
    }

    /// Before a cluster of this machine alone begins with the data of another one.
    pub fn restored(cluster: &str, member: &str, token: &str) -> Record {
        Record { token: Some(token.to_owned()), ..Record::started(cluster, member) }
    }

    /// Of a member that the cluster knows as `id`, before its etcd starts for the first time with these members.
    pub fn joining(cluster: &str, member: &str, id: MemberId, members: BTreeMap<String, Vec<String>>) -> Record {
        Record { origin: Origin::Join, member_id: Some(id), members, ..Record::started(cluster, member) }
    }

    /// Its member is a learner still, or none yet.
    pub fn is_joining(&self) -> bool {
        self.origin == Origin::Join && self.progress == Progress::Started
    }

    pub fn completed(self) -> Record {
        Record { progress: Progress::Completed, ..self }
    }
}

/// What a control plane finds about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Somebody called Cluster.Bootstrap, in this boot.
    pub requested: bool,
    pub record: Option<Record>,
    /// Nothing in etcd's data directory.
    pub etcd_data_empty: bool,
    /// The machine config's cluster.
    pub cluster: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// No member yet: waits for Cluster.Bootstrap or for a join.
    Waiting,
    /// In this order; each may be repeated.
    Act(&'static [Step]),
    /// Starting etcd could lose or mix up data; somebody has to decide.
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write [`Record::started`] to STATE and sync it, before etcd writes anything.
    RecordStart,
    /// A new cluster of one member; or a learner of the one that is there.
    StartEtcd,
    StartApiServer,
    /// Of a learner: until it has all that the others have, and a vote.
    AwaitVote,
    /// Until /readyz.
    AwaitApiServer,
    /// Controller manager and scheduler.
    StartControllers,
    ApplyManifests,
    /// Write [`Record::completed`].
    RecordCompletion,
}

/// Each with what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("etcd has data, but this machine has no record of a cluster: reset the ETCD volume, or recover the member with Etcd.Recover")]
    DataWithoutRecord,
    #[error(
        "etcd's data is gone, but this machine was a member: restore a snapshot with Etcd.Restore, or remove the member and join again"
    )]
    RecordWithoutData,
    #[error("this machine belongs to a cluster of another name: put the name back in the machine config, or reset the machine")]
    OtherCluster,
    #[error("this machine's record was written by a newer release: upgrade to it again")]
    NewerRecord,
}

const FIRST: &[Step] = &[
    Step::RecordStart,
    Step::StartEtcd,
    Step::StartApiServer,
    Step::AwaitApiServer,
    Step::StartControllers,
    Step::ApplyManifests,
    Step::RecordCompletion,
];

/// After the record is there: everything but writing it.
const AGAIN: &[Step] =
    &[Step::StartEtcd, Step::StartApiServer, Step::AwaitApiServer, Step::StartControllers, Step::ApplyManifests, Step::RecordCompletion];

/// What is recorded before etcd starts, the controller of etcd's members does.
const JOIN: &[Step] = &[
    Step::StartEtcd,
    Step::AwaitVote,
    Step::RecordCompletion,
    Step::StartApiServer,
    Step::AwaitApiServer,
    Step::StartControllers,
    Step::ApplyManifests,
];

/// Every boot. Manifests are applied again: they are part of the image's version.
const RUN: &[Step] = &[Step::StartEtcd, Step::StartApiServer, Step::AwaitApiServer, Step::StartControllers, Step::ApplyManifests];

pub fn plan(seen: &Seen) -> Plan {
    let Some(record) = &seen.record else {
        return match (seen.etcd_data_empty, seen.requested) {
            (false, _) => Plan::Refused(Refusal::DataWithoutRecord),
            (true, false) => Plan::Waiting,
            (true, true) => Plan::Act(FIRST),
        };
    };
    if record.version > Record::VERSION {
        return Plan::Refused(Refusal::NewerRecord);
    }
    if record.cluster != seen.cluster {
        return Plan::Refused(Refusal::OtherCluster);
    }
    match (record.progress, seen.etcd_data_empty) {
        (Progress::Started, _) => Plan::Act(match record.origin {
            Origin::Bootstrap => AGAIN,
            Origin::Join => JOIN,
        }),
        (Progress::Completed, false) => Plan::Act(RUN),
        (Progress::Completed, true) => Plan::Refused(Refusal::RecordWithoutData),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(requested: bool, record: Option<Record>, etcd_data_empty: bool) -> Seen {
        Seen { requested, record, etcd_data_empty, cluster: "demo".to_owned() }
    }

    #[test]
    fn nothing_happens_before_somebody_asks() {
        assert_eq!(plan(&seen(false, None, true)), Plan::Waiting);
        assert_eq!(plan(&seen(true, None, true)), Plan::Act(FIRST));
    }

    #[test]
    fn a_cut_bootstrap_goes_on_with_or_without_data() {
        let record = Record::started("demo", "cp-1");
        for empty in [true, false] {
            assert_eq!(plan(&seen(false, Some(record.clone()), empty)), Plan::Act(AGAIN));
        }
        assert_eq!(plan(&seen(true, Some(record.completed()), false)), Plan::Act(RUN), "asking again changes nothing");
    }

    #[test]
    fn data_is_never_made_up_or_overwritten() {
        let done = Record::started("demo", "cp-1").completed();
        assert_eq!(plan(&seen(true, None, false)), Plan::Refused(Refusal::DataWithoutRecord));
        assert_eq!(plan(&seen(true, Some(done.clone()), true)), Plan::Refused(Refusal::RecordWithoutData));
        let other = Record { cluster: "other".to_owned(), ..done.clone() };
        assert_eq!(plan(&seen(true, Some(other), false)), Plan::Refused(Refusal::OtherCluster));
        let newer = Record { version: 2, ..done };
        assert_eq!(plan(&seen(true, Some(newer), false)), Plan::Refused(Refusal::NewerRecord));
    }

    #[test]
    fn a_learner_serves_nobody() {
        let record = Record::joining("demo", "cp-2", MemberId(7), BTreeMap::new());
        for empty in [true, false] {
            let Plan::Act(steps) = plan(&seen(false, Some(record.clone()), empty)) else { panic!("a cut join goes on") };
            let position = |step| steps.iter().position(|other| *other == step);
            assert!(position(Step::AwaitVote) < position(Step::StartApiServer), "{steps:?}");
        }
        assert_eq!(plan(&seen(false, Some(record.clone().completed()), false)), Plan::Act(RUN));
        assert_eq!(plan(&seen(false, Some(record.completed()), true)), Plan::Refused(Refusal::RecordWithoutData));
    }

    #[test]
    fn records_of_earlier_releases_are_read() {
        let text = r#"{"version":1,"cluster":"demo","member":"cp-1","origin":"bootstrap","progress":"completed"}"#;
        let record: Record = serde_json::from_str(text).expect("read");
        assert_eq!(record, Record::started("demo", "cp-1").completed());
        assert_eq!(serde_json::to_string(&record).expect("written"), text);
    }

    #[test]
    fn the_record_precedes_the_data() {
        let position = |step| FIRST.iter().position(|other| *other == step);
        assert!(position(Step::RecordStart) < position(Step::StartEtcd));
        assert!(position(Step::ApplyManifests) < position(Step::RecordCompletion));
    }
}
