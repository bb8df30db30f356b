//! Families of the operating system: the machine's stage, and its services as init sees them.

use ::machine::service::{ServiceState, ServiceStatus};
use ::machine::stage::Stage;
use metrics::open_metrics::Text;
use metrics::open_metrics::text::{Kind, labels};

use crate::node::Node;

pub fn render(node: &Node, text: &mut Text) {
    text.family("corten_stage", Kind::Gauge, "1 for the stage that the machine is in");
    for stage in Stage::ALL {
        text.sample(&labels([("stage", stage.name())]), f64::from(u8::from(stage == node.stage())));
    }
    let services = node.store.all::<ServiceStatus>();
    if services.is_empty() {
        return;
    }
    text.family("corten_service_ready", Kind::Gauge, "Whether the service is up and ready");
    for (name, service) in &services {
        text.sample(&labels([("service", name.as_str())]), f64::from(u8::from(service.state == ServiceState::Ready)));
    }
    text.family("corten_service_restarts_total", Kind::Counter, "Times that init started the service again");
    for (name, service) in &services {
        text.sample(&labels([("service", name.as_str())]), f64::from(service.restarts));
    }
}
