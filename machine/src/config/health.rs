//! When an image that was swapped in counts as good: `machine.health` of the machine config.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::Duration;

const fn seconds(seconds: u64) -> Duration {
    Duration(std::time::Duration::from_secs(seconds))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Health {
    /// How long every check must pass without a break before a new image counts as good. Default: 60s.
    pub hold: Duration,
    /// When a new image that is not good by then is given up, counted from the boot. Default: 15m.
    pub deadline: Duration,
    /// How often a new image is booted before the machine goes back to the one before. Default: 3.
    #[schemars(range(min = 1, max = 9))]
    pub tries: u8,
    /// What must answer on this machine besides Corten's own checks. Default: none.
    pub checks: Vec<HealthCheck>,
}

impl Default for Health {
    fn default() -> Health {
        Health { hold: seconds(60), deadline: seconds(15 * 60), tries: 3, checks: Vec::new() }
    }
}

/// One check of a user's: exactly one of `http`, `tcp` and `pod`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What the check is called. Default: what it asks, such as `http://127.0.0.1:8080/healthz`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A URL must answer. Default: the check is one of the other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A port must accept connections. Default: the check is one of the other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// A pod of this machine must be Ready, which its own readiness probe decides. Default: the check is one of the other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodCheck>,
    /// How long an answer may take. Default: 5s.
    #[serde(default = "default_timeout")]
    pub timeout: Duration,
}

fn default_timeout() -> Duration {
    seconds(5)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCheck {
    /// `http` or `https`; as with Kubernetes' probes, certificates are not checked and redirects not followed. No default.
    pub url: String,
    /// The status that the answer must have. Default: 200.
    #[serde(default = "default_status")]
    #[schemars(range(min = 100, max = 599))]
    pub status: u16,
}

fn default_status() -> u16 {
    200
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpCheck {
    /// Host and port, such as 127.0.0.1:5432. No default.
    pub address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodCheck {
    /// No default.
    pub namespace: String,
    /// The pod's name, or what it begins with before a dash: the name of the static pod, DaemonSet or Deployment that makes it. All pods of
    /// this machine that fit must be Ready, and there must be one. No default.
    pub name: String,
}

/// What a check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    Http(&'a HttpCheck),
    Tcp(&'a TcpCheck),
    Pod(&'a PodCheck),
}

impl HealthCheck {
    /// `None` for one that no check of a config lets through: of no kind, or of several.
    pub fn probe(&self) -> Option<Probe<'_>> {
        match (&self.http, &self.tcp, &self.pod) {
            (Some(http), None, None) => Some(Probe::Http(http)),
            (None, Some(tcp), None) => Some(Probe::Tcp(tcp)),
            (None, None, Some(pod)) => Some(Probe::Pod(pod)),
            _ => None,
        }
    }

    /// Its name, else what it asks.
    pub fn title(&self) -> String {
        let probe = || self.probe().map(|probe| probe.to_string()).unwrap_or_default();
        self.name.clone().unwrap_or_else(probe)
    }
}

impl fmt::Display for Probe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Http(http) => f.write_str(&http.url),
            Probe::Tcp(tcp) => write!(f, "tcp {}", tcp.address),
            Probe::Pod(pod) => write!(f, "pod {}/{}", pod.namespace, pod.name),
        }
    }
}
