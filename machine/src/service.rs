//! What init must know of a service to run it, and what it tells about it. The agent decides these values, init carries them out.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Account;

/// A service's name: lower-case letters, digits and dashes, at most 63 bytes; it names its cgroup, log file and notify socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("service name {0:?}: expected 1 to 63 lower-case letters, digits and dashes, starting with a letter")]
pub struct BadServiceId(pub String);

impl ServiceId {
    pub fn new(name: &str) -> Result<ServiceId, BadServiceId> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
        if starts && name.len() <= 63 && name.chars().all(legal) {
            Ok(ServiceId(name.to_owned()))
        } else {
            Err(BadServiceId(name.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceId {
    type Error = BadServiceId;
    fn try_from(name: String) -> Result<ServiceId, BadServiceId> {
        ServiceId::new(&name)
    }
}

impl From<ServiceId> for String {
    fn from(id: ServiceId) -> String {
        id.0
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything init needs to run one service. Two equal specs are the same service: putting an equal one again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    pub id: ServiceId,
    /// Absolute path; it is also `argv[0]`, by whose base name the multi-call binaries pick their command.
    pub program: PathBuf,
    /// Arguments after `argv[0]`.
    pub args: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub environment: BTreeMap<String, String>,
    pub account: Account,
    pub capabilities: Capabilities,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    pub filesystem: Filesystem,
    /// The service's own cgroup is `<slice>/<id>`.
    pub slice: Slice,
    pub resources: Resources,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub open_files: u64,
    /// From -1000 (never chosen by the OOM killer) to 1000.
    pub oom_score_adjust: i16,
    /// Services that must be ready before this one starts; on shutdown this one stops before them.
    pub after: Vec<ServiceId>,
    pub readiness: Readiness,
    pub restart: Restart,
    pub stop: Stop,
    /// Digest of the files that the program reads only at its start: a put with another digest restarts the service.
    pub files_digest: String,
}

/// Capabilities in the bounding, permitted and (for other users than root) ambient sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capabilities {
    /// As init's: for what manages containers.
    All,
    /// Names as in capabilities(7), lower case, without `CAP_`: `net_bind_service`.
    Only(Vec<String>),
}

/// What a service sees of the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Filesystem {
    /// init's mount namespace: for what mounts things for others.
    Host,
    /// A mount namespace of its own, everything read-only but these directories (created if missing, owned by the account).
    ReadOnly { writable: Vec<PathBuf> },
}

/// A branch of the cgroup tree. `kubepods` beside them is the kubelet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slice {
    /// init's services: the agent.
    System,
    /// containerd, kubelet, kube-proxy.
    Podruntime,
    /// etcd, API server, controller manager, scheduler.
    Controlplane,
}

impl Slice {
    pub const ALL: [Slice; 3] = [Slice::System, Slice::Podruntime, Slice::Controlplane];

    /// Directory under the cgroup root.
    pub fn name(self) -> &'static str {
        match self {
            Slice::System => "system",
            Slice::Podruntime => "podruntime",
            Slice::Controlplane => "controlplane",
        }
    }
}

/// cgroup v2 limits; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// `cpu.weight`, 1 to 10000; the kernel's default is 100.
    pub cpu_weight: Option<u32>,
    /// `memory.min`: never reclaimed.
    pub memory_min_bytes: Option<u64>,
    /// `memory.max`.
    pub memory_max_bytes: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u32>,
}

/// When a started service counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Readiness {
    /// At once.
    Started,
    /// It sends `READY=1` to `$NOTIFY_SOCKET` (sd_notify).
    Notify,
    /// A unix stream socket accepts connections.
    UnixSocket(PathBuf),
    /// A TCP port accepts connections.
    Tcp(SocketAddr),
}

/// Whether and when a service that ended is started again. The waits double from `backoff_min` to `backoff_max` and start over once it
/// has been up for `backoff_max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    pub policy: RestartPolicy,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestartPolicy {
    Always,
    /// Only after an exit code other than 0 or a signal.
    OnFailure,
    Never,
}

/// How a service is stopped: SIGTERM, and SIGKILL after the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    pub deadline: Duration,
    pub whole: StopScope,
}

/// What the stop reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StopScope {
    /// Every process of the service's cgroup.
    Cgroup,
    /// The main process only: containerd's shims and what the kubelet started go on without it.
    MainProcess,
}

/// Where a service is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum ServiceState {
    /// Not wanted: never started, or stopped on request.
    Stopped,
    /// Wanted, but these are not ready yet.
    Waiting {
        after: Vec<ServiceId>,
    },
    /// Its process runs, readiness is not seen yet.
    Starting,
    Ready,
    /// SIGTERM is sent.
    Stopping,
    /// It ended and will be started again after the wait.
    Backoff {
        retry_in: Duration,
    },
    /// It ended and its restart policy leaves it so.
    Ended,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// The program could not be started: errno.
    Exec(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
            Exit::Exec(errno) => write!(f, "not started: errno {errno}"),
        }
    }
}

/// What init tells about a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub id: ServiceId,
    #[serde(flatten)]
    pub state: ServiceState,
    pub pid: Option<u32>,
    /// How often it was started again since it was put or started by request.
    pub restarts: u32,
    pub last_exit: Option<Exit>,
    /// Time since the boot when the state last changed.
    pub since_boot: Duration,
}
