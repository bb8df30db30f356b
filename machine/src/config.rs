//! The machine config. [`Document`] is what a file says; [`Config`] is the same after defaults, merging and every check, and the only type
//! that controllers see. [`load`] is the way from the one to the other.

mod address;
mod address_range;
mod audit;
mod canonical;
mod change;
mod check;
mod cluster;
mod document;
mod firewall;
mod health;
mod host;
mod link;
mod names;
mod patch;
mod pressure;
pub mod report;
mod schema;
mod source;
mod structure;
mod upstream;
mod url;
mod value;
mod version;
pub mod yaml;

pub use address::{BadAddress, Host, HostPort};
pub use address_range::AddressRange;
pub use audit::{Audit, AuditSink, SinkUrl, Transport};
pub use canonical::{MASK, canonical, diff, masked};
pub use change::{needs_reboot, refuse_change};
pub use check::load;
pub use cluster::*;
pub use document::{API_VERSION, Config, Document, KIND};
pub use firewall::{Allow, AllowProtocol, Firewall, FirewallDefault};
pub use health::{Health, HealthCheck, HttpCheck, PodCheck, Probe, TcpCheck};
pub use host::*;
pub use link::*;
pub use names::{is_dns_label, is_dns_subdomain};
pub use patch::{merge, patch};
pub use pressure::*;
pub use report::{Problem, Report};
pub use schema::{UnknownField, explain, schema};
pub use source::Source;
pub use url::Url;
pub use value::{ByteSize, Duration, Secret};
pub use version::{VERSIONS, api_version, is_newer};

#[cfg(test)]
mod tests;
