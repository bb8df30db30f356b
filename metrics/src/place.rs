//! What a cgroup is, by its path: init's services and the kubelet's pods stand at fixed places of the tree.
//!
//! The kubelet's paths are those of its `cgroupfs` driver (pkg/kubelet/cm: `kubepods/<qos>/pod<uid>/<container>`; guaranteed pods stand right
//! under `kubepods`). What lies deeper than a service or a container is its own affair and is not followed: whoever may make cgroups there must
//! not be able to grow the collector.

use std::fmt;
use std::sync::Arc;

/// A service of init's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Service {
    pub slice: Arc<str>,
    pub name: Arc<str>,
}

/// The class of quality of service that the kubelet gives a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quality {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Quality {
    pub fn name(self) -> &'static str {
        match self {
            Quality::Guaranteed => "guaranteed",
            Quality::Burstable => "burstable",
            Quality::BestEffort => "besteffort",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The whole machine.
    Root,
    /// init itself and its tools.
    Init,
    /// A branch of init's tree: all its services.
    Slice(Arc<str>),
    Service(Service),
    /// All pods, or all of a class.
    Pods(Option<Quality>),
    /// By the pod's uid.
    Pod(Quality, Arc<str>),
    /// By the uid of its pod and its own id. One of them is the pod's sandbox.
    Container(Quality, Arc<str>, Arc<str>),
}

const PODS: &str = "kubepods";
const INIT: &str = "init";

impl Place {
    /// The place of a child by its directory's name; `None` for what is nobody's or is not followed.
    pub fn child(&self, name: &str) -> Option<Place> {
        match self {
            Place::Root if name == PODS => Some(Place::Pods(None)),
            Place::Root if name == INIT => Some(Place::Init),
            Place::Root => Some(Place::Slice(name.into())),
            Place::Slice(slice) => Some(Place::Service(Service { slice: slice.clone(), name: name.into() })),
            Place::Pods(None) if name == Quality::Burstable.name() => Some(Place::Pods(Some(Quality::Burstable))),
            Place::Pods(None) if name == Quality::BestEffort.name() => Some(Place::Pods(Some(Quality::BestEffort))),
            Place::Pods(class) => pod_uid(name).map(|uid| Place::Pod(class.unwrap_or(Quality::Guaranteed), uid)),
            Place::Pod(quality, uid) => is_id(name).then(|| Place::Container(*quality, uid.clone(), name.into())),
            Place::Init | Place::Service(_) | Place::Container(..) => None,
        }
    }

    /// Whether children are looked for.
    pub fn is_branch(&self) -> bool {
        !matches!(self, Place::Init | Place::Service(_) | Place::Container(..))
    }

    pub fn pod_uid(&self) -> Option<&Arc<str>> {
        match self {
            Place::Pod(_, uid) | Place::Container(_, uid, _) => Some(uid),
            _ => None,
        }
    }
}

/// A path as in /proc/<pid>/cgroup.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = |f: &mut fmt::Formatter<'_>, quality: &Quality| match quality {
            Quality::Guaranteed => write!(f, "/{PODS}"),
            other => write!(f, "/{PODS}/{}", other.name()),
        };
        match self {
            Place::Root => f.write_str("/"),
            Place::Init => write!(f, "/{INIT}"),
            Place::Slice(slice) => write!(f, "/{slice}"),
            Place::Service(service) => write!(f, "/{}/{}", service.slice, service.name),
            Place::Pods(quality) => class(f, &quality.unwrap_or(Quality::Guaranteed)),
            Place::Pod(quality, uid) => class(f, quality).and_then(|()| write!(f, "/pod{uid}")),
            Place::Container(quality, uid, id) => class(f, quality).and_then(|()| write!(f, "/pod{uid}/{id}")),
        }
    }
}

/// `pod<uid>`: a UUID, or for a static pod the digest of its manifest.
fn pod_uid(name: &str) -> Option<Arc<str>> {
    let uid = name.strip_prefix("pod")?;
    let fits = (32..=63).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    fits.then(|| uid.into())
}

/// A container's id: 64 hexadecimal digits.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Option<Place> {
        path.split('/').filter(|part| !part.is_empty()).try_fold(Place::Root, |place, part| place.child(part))
    }

    #[test]
    fn paths_are_told_apart_and_printed_again() {
        let (uid, id) = ("0f5a1c1e-9b1c-4c39-8a52-3a7e4a5d9d10", "ab".repeat(32));
        let digest = "d41d8cd98f00b204e9800998ecf8427e";
        let paths = [
            "/".to_owned(),
            "/init".to_owned(),
            "/system".to_owned(),
            "/podruntime/kubelet".to_owned(),
            "/kubepods".to_owned(),
            "/kubepods/burstable".to_owned(),
            format!("/kubepods/pod{uid}"),
            format!("/kubepods/pod{uid}/{id}"),
            format!("/kubepods/besteffort/pod{uid}"),
            format!("/kubepods/burstable/pod{digest}/{id}"),
        ];
        for path in paths {
            assert_eq!(place(&path).map(|place| place.to_string()), Some(path));
        }
    }

    #[test]
    fn what_a_pod_or_service_makes_of_its_own_is_not_followed() {
        let (uid, id) = ("0f5a1c1e-9b1c-4c39-8a52-3a7e4a5d9d10", "ab".repeat(32));
        for path in [
            format!("/kubepods/pod{uid}/{id}/nested"),
            format!("/kubepods/pod{uid}/nested"),
            format!("/kubepods/pod{uid}/{}\"}} 1", "a".repeat(61)),
            "/kubepods/podx".to_owned(),
            "/kubepods/other".to_owned(),
            "/system/agent/more".to_owned(),
            "/init/more".to_owned(),
        ] {
            assert_eq!(place(&path), None, "{path}");
        }
    }
}
