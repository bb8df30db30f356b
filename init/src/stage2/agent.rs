//! The one service that is built in: the agent. All others are put by it.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::Root;
use machine::account::Account;
use machine::service::{
    BadServiceId, Capabilities, Filesystem, Readiness, Resources, Restart, RestartPolicy, ServiceId, ServiceSpec, Slice, Stop, StopScope,
};

/// Its name in the service table.
pub const ID: &str = "nodeagent";

/// How the agent runs: as root with all capabilities, because it is what configures network, volumes and containers. It is started again
/// whenever it ends, and neither reclaim nor the OOM killer reach it.
pub fn spec(root: &Root) -> Result<ServiceSpec, BadServiceId> {
    let path = "/usr/bin:/usr/sbin:/usr/libexec/cni".to_owned();
    Ok(ServiceSpec {
        id: ServiceId::new(ID)?,
        program: root.nodeagent(),
        args: Vec::new(),
        environment: BTreeMap::from([("PATH".to_owned(), path), ("HOME".to_owned(), "/root".to_owned())]),
        account: Account::Root,
        capabilities: Capabilities::All,
        no_new_privileges: false,
        filesystem: Filesystem::Host,
        slice: Slice::System,
        resources: Resources { cpu_weight: Some(200), memory_min_bytes: Some(32 << 20), memory_max_bytes: None, pids_max: Some(512) },
        open_files: 65536,
        oom_score_adjust: -999,
        after: Vec::new(),
        readiness: Readiness::Notify,
        restart: Restart { policy: RestartPolicy::Always, backoff_min: Duration::from_millis(100), backoff_max: Duration::from_secs(10) },
        stop: Stop { deadline: Duration::from_secs(10), whole: StopScope::Cgroup },
        files_digest: String::new(),
    })
}
