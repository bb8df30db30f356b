//! What an image on trial does not do yet, because the image before could not undo it: its Kubernetes behaves as the old one, and its etcd
//! keeps the storage version of the old one. And what an image has to take back before an older one may follow it.

use machine::protocol::ImageFacts;
use machine::version::Minor;

use super::phase::Phase;
use super::records::{Kind, Record};
use crate::controllers::images;
use crate::node::Node;

/// How many minor versions back the Kubernetes parts emulate (`--emulated-version`; KEP-4330).
const EMULATED: u64 = 3;

/// The minor versions that the running image is held to; `None` where it may be what it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restraint {
    pub kubernetes: Option<Minor>,
    /// etcd itself goes one minor version back at most.
    pub etcd: Option<Minor>,
}

/// By the newest record.
pub fn decide(record: Option<&Record>, image: &ImageFacts) -> Restraint {
    let Some(record) = record else { return Restraint::default() };
    match (record.phase, record.kind) {
        (Phase::Proving, _) => Restraint {
            kubernetes: older(&record.from_kubernetes, &image.kubernetes, EMULATED),
            etcd: older(&record.from_etcd, &image.etcd, 1),
        },
        // The old etcd is to find data that it reads.
        (Phase::Verifying | Phase::Ready | Phase::Booting, Kind::Rollback) => {
            Restraint { kubernetes: None, etcd: older(&record.to_etcd, &image.etcd, 1) }
        }
        (Phase::Verifying | Phase::Ready | Phase::Booting, Kind::Upgrade)
        | (Phase::Writing | Phase::Blessed | Phase::Failed | Phase::Cancelled, _) => Restraint::default(),
    }
}

/// The older minor version, if it is one and at most that many before the running one.
fn older(from: &str, running: &str, at_most: u64) -> Option<Minor> {
    let (from, running): (Minor, Minor) = (from.parse().ok()?, running.parse().ok()?);
    let distance = running.minor.checked_sub(from.minor).filter(|_| from.major == running.major)?;
    (1..=at_most).contains(&distance).then_some(from)
}

/// Of this machine, as the board tells.
pub fn observe(node: &Node) -> Restraint {
    let newest = node.store.all::<Record>().into_values().max_by_key(|record| record.number);
    let Some(image) = newest.as_ref().and_then(|_| images::facts(&node.root)) else { return Restraint::default() };
    decide(newest.as_ref(), &image)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::record;
    use super::*;

    fn decided(phase: Phase, from: (&str, &str), running: (&str, &str)) -> Restraint {
        let record = Record { phase, from_kubernetes: from.0.to_owned(), from_etcd: from.1.to_owned(), ..record(1) };
        decide(Some(&record), &image(running.0, running.1))
    }

    fn image(kubernetes: &str, etcd: &str) -> ImageFacts {
        ImageFacts {
            version: "0.2.0".to_owned(),
            profile: "controlplane".to_owned(),
            architecture: "x86_64".to_owned(),
            kubernetes: kubernetes.to_owned(),
            etcd: etcd.to_owned(),
            built_at: 0,
            partitions: Vec::new(),
        }
    }

    fn kubernetes(minor: u64) -> Option<Minor> {
        Some(Minor { major: 1, minor })
    }

    #[test]
    fn only_an_image_on_trial_is_held() {
        let (from, running) = (("v1.36.4", "v3.6.9"), ("v1.37.1", "v3.7.3"));
        for (phase, expected) in [
            (Phase::Writing, Restraint::default()),
            (Phase::Verifying, Restraint::default()),
            (Phase::Ready, Restraint::default()),
            (Phase::Booting, Restraint::default()),
            (Phase::Proving, Restraint { kubernetes: kubernetes(36), etcd: Some(Minor { major: 3, minor: 6 }) }),
            (Phase::Blessed, Restraint::default()),
            (Phase::Failed, Restraint::default()),
            (Phase::Cancelled, Restraint::default()),
        ] {
            assert_eq!(decided(phase, from, running), expected, "{phase:?}");
        }
    }

    #[test]
    fn before_a_rollback_etcd_goes_back_and_kubernetes_cannot() {
        let image = image("v1.37.1", "v3.7.3");
        for (phase, to_etcd, held) in [
            (Phase::Verifying, "v3.6.9", true),
            (Phase::Ready, "v3.6.9", true),
            (Phase::Booting, "v3.6.9", true),
            (Phase::Booting, "v3.7.0", false),
            (Phase::Booting, "v3.5.0", false),
            (Phase::Booting, "", false),
            // It fell back to this one.
            (Phase::Failed, "v3.6.9", false),
            (Phase::Cancelled, "v3.6.9", false),
        ] {
            let record = Record { kind: Kind::Rollback, phase, to_etcd: to_etcd.to_owned(), ..record(1) };
            let expected = Restraint { kubernetes: None, etcd: held.then_some(Minor { major: 3, minor: 6 }) };
            assert_eq!(decide(Some(&record), &image), expected, "{phase:?} {to_etcd}");
        }
    }

    #[test]
    fn to_what_the_old_image_had_where_that_is_older_and_can_be_emulated() {
        let held = |from, running| decided(Phase::Proving, from, running);
        let etcd = |minor| Some(Minor { major: 3, minor });
        for (from, running, expected) in [
            (("v1.37.0", "v3.7.0"), ("v1.37.1", "v3.7.3"), (None, None)),
            (("v1.34.0", "v3.7.0"), ("v1.37.1", "v3.7.3"), (kubernetes(34), None)),
            (("v1.33.0", "v3.5.0"), ("v1.37.1", "v3.7.3"), (None, None)),
            (("v1.37.1", "v3.6.0"), ("v1.37.1", "v3.7.3"), (None, etcd(6))),
            // An older image again: nothing of it is newer than the one before.
            (("v1.37.1", "v3.7.3"), ("v1.36.4", "v3.6.9"), (None, None)),
            // A record of a release that did not write them, and an image without Kubernetes.
            (("", ""), ("v1.37.1", "v3.7.3"), (None, None)),
            (("v1.36.4", "v3.6.9"), ("", ""), (None, None)),
        ] {
            assert_eq!(held(from, running), Restraint { kubernetes: expected.0, etcd: expected.1 }, "{from:?} {running:?}");
        }
    }
}
