//! What makes a cluster out of machines: its PKI, etcd, API server, controller manager and scheduler, kubeconfigs, manifests and bootstrap.
//!
//! Everything here takes values and returns values: no clock, no file system, no network. Two things are impure: new keys come from the
//! system's random generator, and `client` talks to the API server.

pub mod apiserver;
pub mod bootstrap;
pub mod client;
pub mod client_config;
pub mod controller_manager;
pub mod credentials;
pub mod etcd;
pub mod facts;
mod flags;
pub mod generate;
pub mod kubeconfig;
pub mod manifests;
pub mod metrics_api;
pub mod pki;
pub mod ports;
pub mod render;
pub mod scheduler;
pub mod secrets;
mod service;
mod yaml;

pub use credentials::Credentials;
pub use facts::Facts;
pub use render::{RenderError, Rendered};
