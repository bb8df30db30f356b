//! An installation as whoever stands before the machine sees it: without a certificate.

use api::v1::config_client::ConfigClient;
use api::v1::resource_client::ResourceClient;
use api::v1::{ApplyRequest, ListResourcesRequest};
use machine::stage::Stage;
use tonic::Code;
use tonic_types::StatusExt;

use super::harness::{Machine, config};
use crate::install::disks;
use crate::install::played::Played;
use crate::resources::installation::{InstallationStatus, Phase, REFUSED};
use crate::stage::StageEvent;

fn wanted(document: String, dry_run: bool) -> ApplyRequest {
    ApplyRequest { document: document.into_bytes(), dry_run, revert_after: None }
}

fn config_with_install(install: &str) -> String {
    config().replacen("\nmachine:\n", &format!("\nmachine:\n  install: {install}\n"), 1)
}

async fn refusal(client: &mut ConfigClient<tonic::transport::Channel>, document: String) -> (String, String) {
    let refused = client.apply(wanted(document, false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let violation = refused.get_details_bad_request().unwrap().field_violations.remove(0);
    (violation.field, violation.description)
}

#[tokio::test]
async fn disks_are_shown_and_one_is_installed_on() {
    let played = Played::new();
    played.add_disk("vdb", 100 << 30);
    let machine = Machine::on_medium(played.root(), played.facts()).await;
    disks::publish(&machine.node).await.unwrap();
    let stranger = machine.stranger().await.unwrap();
    let mut resources = ResourceClient::new(stranger.clone());
    let listed = resources.list(ListResourcesRequest { kind: "disks".to_owned() }).await.unwrap().into_inner();
    assert_eq!(listed.objects.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["vda", "vdb"]);

    let mut client = ConfigClient::new(stranger.clone());
    let (field, several) = refusal(&mut client, config()).await;
    assert_eq!(field, "machine.install.disk");
    assert!(several.contains("/dev/vda (ssd, 20.0 GiB") && several.contains("/dev/vdb (ssd, 100.0 GiB"), "{several}");
    let (field, none) = refusal(&mut client, config_with_install("{ disk: { serial: X9 } }")).await;
    assert!(field == "machine.install.disk" && none.starts_with("no disk has serial \"X9\"; the machine has /dev/vda"), "{none}");
    let shown = machine.node.store.get::<InstallationStatus>(REFUSED).unwrap();
    assert_eq!((shown.version.as_str(), shown.phase), ("0.1.0", Phase::Refused));
    assert!(shown.message.starts_with("machine.install.disk: no disk has serial \"X9\""), "{}", shown.message);
    assert!(machine.console().contains("corten: not installed: machine.install.disk: no disk has serial \"X9\""), "{}", machine.console());
    let lines = machine.console().lines().count();
    refusal(&mut client, config_with_install("{ disk: { serial: X9 } }")).await;
    assert_eq!(machine.console().lines().count(), lines, "the same once more");

    let document = config_with_install("{ disk: { path: /dev/vda } }");
    machine.init.refuse_disks(Some("device \"/dev/vda\" holds a GPT with ESP, ROOT-A; ask for it to be wiped"));
    let (field, holds) = refusal(&mut client, document.clone()).await;
    assert!(field == "machine.install.disk" && holds.contains("holds a GPT with ESP, ROOT-A"), "{holds}");
    assert_eq!(machine.node.stage(), Stage::Maintenance);
    let shown = machine.node.store.get::<InstallationStatus>(REFUSED).unwrap().message;
    assert!(shown.contains("holds a GPT with ESP, ROOT-A"), "{shown}");

    machine.init.refuse_disks(None);
    let planned = client.apply(wanted(document.clone(), true)).await.unwrap().into_inner();
    let begun = client.apply(wanted(document.clone(), false)).await.unwrap().into_inner();
    assert_eq!((begun.generation, &begun.plan), (0, &planned.plan));
    assert_eq!(machine.node.store.get::<InstallationStatus>(REFUSED), None);
    machine.until_event("machine Installed: installed on /dev/vda").await;
    machine.until_event("stage installing -> rebooting").await;
    assert!(machine.console().contains("corten: installed on /dev/vda; the machine reboots from it"), "{}", machine.console());
    assert_eq!(played.config(), Some((1, document)));
    assert!(played.is_bootable());
}

#[tokio::test]
async fn while_it_is_under_way_strangers_look_and_change_nothing() {
    let played = Played::new();
    let machine = Machine::on_medium(played.root(), played.facts()).await;
    let stranger = machine.stranger().await.unwrap();
    machine.node.happened(StageEvent::InstallBegan);
    let request = ListResourcesRequest { kind: "installations".to_owned() };
    ResourceClient::new(stranger.clone()).list(request).await.unwrap();
    let refused = ConfigClient::new(stranger).apply(wanted(config(), false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}
