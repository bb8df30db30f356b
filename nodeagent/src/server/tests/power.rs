//! Power, services and the bootstrap over the API.

use api::v1::cluster_client::ClusterClient;
use api::v1::machine_client::MachineClient;
use api::v1::service_control_client::ServiceControlClient;
use api::v1::{BootstrapRequest, GetHealthRequest, GetKubeconfigRequest, RebootRequest, ResetRequest, RestartRequest, StopRequest};
use machine::disk::Volume;
use machine::protocol::{Event, VolumeState, VolumeStatus};
use machine::service::ServiceState;
use machine::stage::Stage;
use tonic::Code;

use super::harness::Machine;
use super::init::service;
use crate::resources::network::NodeIps;

async fn until_asked(machine: &Machine, words: &str) -> String {
    for _ in 0..500 {
        if let Some(asked) = machine.init.asked().into_iter().find(|asked| asked.contains(words)) {
            return asked;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("init was not asked for {words:?}: {:#?}", machine.init.asked());
}

#[tokio::test]
async fn a_reset_is_shown_confirmed_and_done() {
    let machine = Machine::configured().await;
    let mut client = MachineClient::new(machine.admin().await);
    let volumes = vec!["EPHEMERAL".to_owned()];
    let dry = ResetRequest { dry_run: true, volumes: volumes.clone(), ..Default::default() };
    assert!(client.reset(dry).await.unwrap().into_inner().plan.iter().any(|step| step.starts_with("wipe EPHEMERAL")));
    let unconfirmed = ResetRequest { volumes: volumes.clone(), confirm: "another".to_owned(), ..Default::default() };
    assert_eq!(client.reset(unconfirmed).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(!machine.init.asked().iter().any(|asked| asked.contains("Power")));

    machine.init.tell(Event::Service(service("kubelet", ServiceState::Ready)));
    machine.until_event("service/kubelet Ready").await;
    let confirm = crate::power::hostname(&machine.node);
    client.reset(ResetRequest { volumes, confirm, ..Default::default() }).await.unwrap();
    until_asked(&machine, "StopService").await;
    assert!(!machine.init.asked().iter().any(|asked| asked.contains("Power")), "the kubelet still runs");
    machine.init.tell(Event::Service(service("kubelet", ServiceState::Stopped)));
    let asked = until_asked(&machine, "Power").await;
    assert!(asked.contains("Reboot") && asked.contains("[Ephemeral]") && asked.contains("os:admin/alice"), "{asked}");
    assert_eq!(machine.node.stage(), Stage::Resetting);
    assert_eq!(client.reboot(RebootRequest::default()).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn services_are_restarted_and_the_agent_is_not_stopped() {
    let machine = Machine::configured().await;
    let mut client = ServiceControlClient::new(machine.admin().await);
    client.restart(RestartRequest { service: "containerd".to_owned(), dry_run: true }).await.unwrap();
    assert!(!machine.init.asked().iter().any(|asked| asked.contains("RestartService")));
    client.restart(RestartRequest { service: "containerd".to_owned(), dry_run: false }).await.unwrap();
    until_asked(&machine, "RestartService").await;
    for (service, code) in [("nodeagent", Code::FailedPrecondition), ("cron", Code::NotFound), ("No Such", Code::InvalidArgument)] {
        let refused = client.stop(StopRequest { service: service.to_owned(), dry_run: false }).await.unwrap_err();
        assert_eq!(refused.code(), code, "{service}");
    }
}

#[tokio::test]
async fn a_cluster_is_made_once() {
    let machine = Machine::configured().await;
    let mut client = ClusterClient::new(machine.admin().await);
    let refused = client.bootstrap(BootstrapRequest { dry_run: false }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let etcd = VolumeStatus { volume: Volume::Etcd, state: VolumeState::Open, size_bytes: 1, device: String::new() };
    machine.init.tell(Event::Volume(etcd.clone()));
    machine.node.store.put("etcd", &etcd);
    // It is the only one that its config names.
    machine.node.store.put(NodeIps::NAME, &NodeIps { addresses: vec!["192.0.2.10".parse().unwrap()] });

    let shown = client.bootstrap(BootstrapRequest { dry_run: true }).await.unwrap().into_inner();
    assert!(!shown.plan.is_empty() && !shown.already_bootstrapped);
    assert!(!crate::resources::bootstrap::is_done(&machine.node.store));
    assert!(!client.bootstrap(BootstrapRequest { dry_run: false }).await.unwrap().into_inner().already_bootstrapped);
    assert!(crate::resources::bootstrap::is_done(&machine.node.store) && machine.root.bootstrap_record().exists());
    assert!(client.bootstrap(BootstrapRequest { dry_run: false }).await.unwrap().into_inner().already_bootstrapped);

    let kubeconfig = client.get_kubeconfig(GetKubeconfigRequest::default()).await.unwrap().into_inner().kubeconfig;
    assert!(kubeconfig.contains("https://192.0.2.10:6443") && kubeconfig.contains("alice@demo"), "{kubeconfig}");
}

#[tokio::test]
async fn health_names_what_is_missing() {
    let machine = Machine::configured().await;
    let mut client = MachineClient::new(machine.admin().await);
    let mut stream = client.get_health(GetHealthRequest { wait: None }).await.unwrap().into_inner();
    let report = stream.message().await.unwrap().unwrap();
    assert!(!report.healthy);
    let etcd = report.checks.iter().find(|check| check.name == "etcd").unwrap();
    assert!(!etcd.passed && etcd.message.contains("bootstrap"), "{etcd:?}");
    assert!(stream.message().await.unwrap().is_none());
}
