//! Service ServiceControl: starts and stops what init supervises.

use api::v1::service_control_server;
use api::v1::{RestartRequest, RestartResponse, StartRequest, StartResponse, StopRequest, StopResponse};
use machine::service::{ServiceId, ServiceStatus};
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::refusal::Refusal;

#[derive(Debug)]
pub struct ServiceControl(pub Node);

/// The agent itself: it may be started anew, but not be gone.
const AGENT: &str = "nodeagent";

#[tonic::async_trait]
impl service_control_server::ServiceControl for ServiceControl {
    async fn start(&self, request: Request<StartRequest>) -> Result<Response<StartResponse>, Status> {
        let StartRequest { service, dry_run } = request.into_inner();
        let id = self.known(&service).await?;
        if !dry_run {
            self.0.init.start_service(id).await.map_err(Refusal::init)?;
        }
        Ok(Response::new(StartResponse { plan: vec![format!("start {service}")] }))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopResponse>, Status> {
        let StopRequest { service, dry_run } = request.into_inner();
        let id = self.known(&service).await?;
        if service == AGENT {
            return Err(Refusal::state("AGENT", "without nodeagent nobody could start it again", "restart it instead").into());
        }
        if !dry_run {
            self.0.init.stop_service(id).await.map_err(Refusal::init)?;
        }
        Ok(Response::new(StopResponse { plan: vec![format!("stop {service} until it is started again or the machine reboots")] }))
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Result<Response<RestartResponse>, Status> {
        let RestartRequest { service, dry_run } = request.into_inner();
        let id = self.known(&service).await?;
        if !dry_run {
            self.0.init.restart_service(id).await.map_err(Refusal::init)?;
        }
        Ok(Response::new(RestartResponse { plan: vec![format!("stop {service} and start it again")] }))
    }
}

impl ServiceControl {
    /// A service that init has.
    async fn known(&self, name: &str) -> Result<ServiceId, Refusal> {
        let id = ServiceId::new(name).map_err(|error| Refusal::field("service", error.to_string()))?;
        let services: Vec<ServiceStatus> = self.0.init.services().await.map_err(Refusal::init)?;
        if services.iter().any(|service| service.id == id) {
            return Ok(id);
        }
        Err(Refusal::not_found(format!("service {name}"), "see the services there are: machinectl services"))
    }
}
