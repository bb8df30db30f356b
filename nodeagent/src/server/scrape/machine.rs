//! Families of the operating system: the machine's stage, and its services as init sees them.

use ::machine::service::{ServiceState, ServiceStatus};
use ::machine::stage::Stage;
use metrics::open_metrics::Text;
use metrics::open_metrics::text::{Kind, labels};

use crate::node::Node;

pub fn render(node: &Node, text: &mut Text) {
    let services = node.store.all::<ServiceStatus>();
    let services: Vec<Service> = services
        .iter()
        .map(|(name, service)| Service { name, ready: service.state == ServiceState::Ready, restarts: service.restarts })
        .collect();
    families(node.stage(), &services, text);
}

struct Service<'a> {
    name: &'a str,
    ready: bool,
    restarts: u32,
}

fn families(now: Stage, services: &[Service], text: &mut Text) {
    text.family("corten_stage", Kind::Gauge, "1 for the stage that the machine is in");
    for stage in Stage::ALL {
        text.sample(&labels([("stage", stage.name())]), f64::from(u8::from(stage == now)));
    }
    if services.is_empty() {
        return;
    }
    text.family("corten_service_ready", Kind::Gauge, "Whether the service is up and ready");
    for service in services {
        text.sample(&labels([("service", service.name)]), f64::from(u8::from(service.ready)));
    }
    text.family("corten_service_restarts_total", Kind::Counter, "Times that init started the service again");
    for service in services {
        text.sample(&labels([("service", service.name)]), f64::from(service.restarts));
    }
}

#[cfg(test)]
mod tests {
    use metrics::open_metrics::Format;

    use super::*;

    /// What dashboards and rules are checked against, beside the collector's.
    #[test]
    fn names_and_labels() {
        let services = [Service { name: "etcd", ready: true, restarts: 0 }, Service { name: "kubelet", ready: false, restarts: 2 }];
        let mut text = Text::new(Format::OpenMetrics);
        families(Stage::Running, &services, &mut text);
        crate::golden::check("src/server/scrape/golden/machine.txt", &text.finish());
    }
}
