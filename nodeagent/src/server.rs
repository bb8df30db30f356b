//! The machine API's server: one port, TLS, the gate, and one file for each service.

mod audit;
mod audited;
pub mod caller;
mod capture;
pub mod chunks;
pub(crate) mod cluster;
mod config;
mod etcd;
mod file;
mod gate;
mod image;
mod joining;
mod listener;
mod log;
mod machine;
mod metrics;
mod passing;
pub mod permission;
mod refusals;
mod resource;
mod scrape;
mod service_control;
mod shares;
mod status;
mod stream;
pub mod tls;
mod upgrade;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub use tests::harness as testing;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::admission::Admission;
use crate::audit::Audit;
use crate::bootstrap::Bootstrap;
use crate::config::Configs;
use crate::node::Node;
use crate::power::Power;
use crate::reviews::Reviews;
use crate::upgrade::Upgrades;
use crate::usage::Usage;
use gate::GateLayer;
pub use listener::{Connection, accept, bind};
pub use log::proto as event;
pub use machine::{report, version};
pub use refusals::Refusals;
use tls::Credentials;

/// Streams that one connection may have open at a time.
const STREAMS: u32 = 64;
/// What a stream may send before its reader takes it, and a connection altogether.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const MAX_HEADER_BYTES: u32 = 16 * 1024;
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often an idle connection is asked whether it is still there, and how long it has to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_DEADLINE: Duration = Duration::from_secs(15);

/// What the methods work on.
#[derive(Debug, Clone)]
pub struct Api {
    pub node: Node,
    pub configs: Arc<Configs>,
    pub bootstrap: Arc<Bootstrap>,
    pub admission: Admission,
    pub power: Power,
    pub upgrades: Arc<Upgrades>,
    pub audit: Audit,
    pub usage: Usage,
    pub reviews: Reviews,
}

/// Serves the machine API until the future is dropped.
pub async fn serve(listener: TcpListener, credentials: watch::Receiver<Arc<Credentials>>, api: Api) -> anyhow::Result<()> {
    let refusals = Arc::new(Refusals::new(api.node.events.clone()));
    let (sender, connections) = mpsc::channel::<io::Result<Connection>>(8);
    let accepting = accept(listener, credentials, refusals.clone(), sender);
    let serving = transport()
        .layer(GateLayer::new(api.node.clone(), refusals, api.audit.clone(), api.reviews.clone()))
        .add_routes(routes(&api)?)
        .serve_with_incoming(ReceiverStream::new(connections));
    tokio::select! {
        served = serving => served.context("serving the machine API"),
        () = accepting => Ok(()),
    }
}

/// Bounded in what a connection may ask for and keep waiting.
pub fn transport() -> Server {
    Server::builder()
        // Not every scraper of metrics speaks HTTP/2.
        .accept_http1(true)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_DEADLINE))
}

macro_rules! limited {
    ($server:expr) => {
        $server.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
    };
}

/// Every service of the API, and gRPC's own two.
fn routes(api: &Api) -> anyhow::Result<Routes> {
    use api::v1::audit_server::AuditServer;
    use api::v1::capture_server::CaptureServer;
    use api::v1::cluster_server::ClusterServer;
    use api::v1::config_server::ConfigServer;
    use api::v1::etcd_server::EtcdServer;
    use api::v1::file_server::FileServer;
    use api::v1::image_server::ImageServer;
    use api::v1::log_server::LogServer;
    use api::v1::machine_server::MachineServer;
    use api::v1::metrics_server::MetricsServer;
    use api::v1::resource_server::ResourceServer;
    use api::v1::service_control_server::ServiceControlServer;
    use api::v1::upgrade_server::UpgradeServer;

    let (_, health) = tonic_health::server::health_reporter();
    let methods = Routes::new(limited!(MachineServer::new(machine::Machine(api.clone()))))
        .add_service(limited!(ConfigServer::new(config::Config(api.clone()))))
        .add_service(limited!(ResourceServer::new(resource::Resource(api.node.clone()))))
        .add_service(limited!(ServiceControlServer::new(service_control::ServiceControl(api.node.clone()))))
        .add_service(limited!(LogServer::new(log::Log(api.node.clone()))))
        .add_service(limited!(ClusterServer::new(cluster::Cluster(api.clone()))))
        .add_service(limited!(EtcdServer::new(etcd::Etcd(api.node.clone()))))
        .add_service(limited!(ImageServer::new(image::Image(api.node.clone()))))
        .add_service(limited!(FileServer::new(file::File(api.node.clone()))))
        .add_service(limited!(AuditServer::new(audit::Audit(api.audit.clone()))))
        .add_service(limited!(MetricsServer::new(metrics::Metrics(api.usage.clone()))))
        .add_service(limited!(CaptureServer::new(capture::Capture::default())))
        .add_service(limited!(UpgradeServer::new(upgrade::Upgrade(api.upgrades.clone()))))
        .add_service(health)
        .add_service(reflection().build_v1().context("preparing the reflection service")?)
        .add_service(reflection().build_v1alpha().context("preparing the reflection service")?);
    Ok(Routes::from(methods.into_axum_router().merge(scrape::router(api.node.clone(), api.usage.clone()))).prepare())
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(::api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
