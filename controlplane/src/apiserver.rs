//! kube-apiserver: its flags, files and service.

mod args;
mod files;

use std::collections::BTreeMap;
use std::time::Duration;

use machine::account::Account;
use machine::config::Config;
use machine::service::{Filesystem, Resources, Stop, StopScope};

use crate::credentials::Credentials;
use crate::facts::Facts;
use crate::flags;
use crate::render::{Files, RenderError, Rendered};
use crate::service::{API_SERVER, ETCD, MIB, control_plane_service, service_id};

/// In seconds (k8s.io/apimachinery, pkg/util/net): after how long without a frame on a connection of its own the API server asks the other side whether
/// it is there, and for how long it waits for the answer. Upstream's are 30 and 15: so long hangs what was asked of a machine that lost its power,
/// be it an aggregated API, a webhook or a kubelet.
const HTTP2_HEALTH: [(&str, u32); 2] = [("HTTP2_PING_TIMEOUT_SECONDS", 5), ("HTTP2_READ_IDLE_TIMEOUT_SECONDS", 5)];

/// Ready for init means that it listens (kube-apiserver notifies then); whether it serves, the agent asks at /readyz.
pub fn render(config: &Config, facts: &Facts, credentials: &Credentials) -> Result<Rendered, RenderError> {
    let mut files = Files::new(&facts.root, API_SERVER, Account::KubeApiserver);
    let paths = files::add(&mut files, config, credentials)?;
    let flags = args::all(config, facts, &paths)?;

    let mut service = control_plane_service(&facts.root, API_SERVER, Account::KubeApiserver, flags::arguments(&flags));
    service.environment = BTreeMap::from(HTTP2_HEALTH.map(|(name, seconds)| (name.to_owned(), seconds.to_string())));
    service.filesystem = Filesystem::ReadOnly { writable: vec![facts.root.audit_log_directory()] };
    service.resources = Resources { cpu_weight: Some(1000), memory_min_bytes: Some(384 * MIB), ..service.resources };
    service.open_files = 262_144;
    service.after = vec![service_id(ETCD)];
    service.stop = Stop { deadline: Duration::from_secs(60), whole: StopScope::Cgroup };
    Ok(files.into_rendered(service))
}
