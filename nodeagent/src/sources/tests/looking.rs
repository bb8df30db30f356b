//! The whole way: from a source that comes late or holds nonsense to a config in force.

use std::sync::Arc;
use std::time::Duration;

use machine::protocol::VolumeState;
use tokio::task::JoinHandle;

use super::server::{Reply, Server};
use super::{Machine, clouds, outside};
use crate::clock::Clock;
use crate::config::{Configs, Wanted};
use crate::resources::sources::{ConfigSource, Outcome};
use crate::server::testing::config;
use crate::sources::Watch;
use crate::sources::facts::{Facts, SecureBoot};
use crate::sources::plan::plan;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn configs(machine: &Machine) -> Arc<Configs> {
    Arc::new(Configs::new(machine.node.clone(), Clock::new(&machine.node.root)))
}

fn look(machine: &Machine, configs: &Arc<Configs>, server: &Server, platform: &str, url: Option<&str>) -> JoinHandle<()> {
    let facts = Facts { platform: platform.to_owned(), url: url.map(str::to_owned), secure_boot: SecureBoot::Off };
    tokio::spawn(Watch::new(machine.node.clone(), configs.clone(), &outside(server)).run(plan(&facts)))
}

fn seen(machine: &Machine, name: &str) -> ConfigSource {
    machine.node.store.get(name).unwrap()
}

/// Waits until the board has it so.
async fn until(machine: &Machine, name: &str, fits: impl Fn(&ConfigSource) -> bool) -> ConfigSource {
    let mut board = machine.node.store.revision();
    let looking = async {
        loop {
            board.mark_unchanged();
            if let Some(status) = machine.node.store.get::<ConfigSource>(name).filter(&fits) {
                return status;
            }
            board.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{:?}", seen(machine, name)))
}

fn events(machine: &Machine, reason: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(event) = machine.node.events.next(next) {
        next = event.number + 1;
        if event.reason == reason {
            found.push(format!("{}: {}", event.subject, event.message));
        }
    }
    found
}

#[tokio::test]
async fn a_service_that_is_late_is_asked_again_until_its_config_is_in_force() {
    let machine = Machine::new();
    let mut tries = 0;
    let mut aws = clouds::aws(Some(config().into_bytes()), 100);
    let server = Server::start(move |request| {
        tries += 1;
        if tries <= 3 { Reply::status(500) } else { aws(request) }
    })
    .await;
    let configs = configs(&machine);
    tokio::time::timeout(PATIENCE, look(&machine, &configs, &server, "aws", None)).await.unwrap().unwrap();
    assert_eq!(machine.node.config().unwrap().generation, 1);
    let status = seen(&machine, "aws");
    assert_eq!((status.result, status.message.as_str(), status.tries), (Outcome::Applied, "generation 1", 4));
    assert!(status.tried_at.ends_with('Z'), "{status:?}");
    assert_eq!(configs.list().await.unwrap().0[0].0.applied_by, "source: aws");
    assert!(machine.console().contains("machine config from aws (169.254.169.254)"), "{}", machine.console());
}

#[tokio::test]
async fn nonsense_is_told_once_for_each_content_and_a_better_one_is_taken() {
    let machine = Machine::new();
    let wrong = config().replacen("\nmachine:\n", "\nmachine:\n  hostnam: x\n", 1);
    let contents = [b"#cloud-config\n".to_vec(), wrong.into_bytes(), config().into_bytes()];
    let mut tries = 0;
    let server = Server::start(move |_| {
        tries += 1;
        Reply::ok(&contents[tries / 5])
    })
    .await;
    tokio::time::timeout(PATIENCE, look(&machine, &configs(&machine), &server, "openstack", None)).await.unwrap().unwrap();
    assert_eq!(machine.node.config().unwrap().generation, 1);
    let refused = events(&machine, "Refused");
    let [first, second] = refused.as_slice() else { panic!("{refused:#?}") };
    assert!(first.starts_with("configsource/openstack: 169.254.169.254: document: begins with #cloud-config"), "{first}");
    assert!(second.contains("machine.hostnam: line ") && second.contains("did you mean"), "{second}");
    let console = machine.console();
    assert_eq!(console.matches("is not taken").count(), 2, "{console}");
    assert!(console.contains("machine.hostnam: line "), "{console}");
    // Whoever looks at the board sees that the volume was looked for as well.
    assert_eq!(seen(&machine, "config-drive").result, Outcome::Nothing);
}

#[tokio::test]
async fn no_config_is_taken_while_none_can_be_kept() {
    let machine = Machine::new();
    machine.state(VolumeState::Opening);
    let server = Server::start(clouds::openstack(Some(config().into_bytes()))).await;
    let looking = look(&machine, &configs(&machine), &server, "openstack", None);
    let status = until(&machine, "openstack", |status| status.result == Outcome::Refused && status.tries >= 3).await;
    assert!(status.message.contains("being opened"), "{status:?}");
    assert!(machine.node.config().is_none());
    assert_eq!(events(&machine, "Refused").len(), 1);
    machine.state(VolumeState::Open);
    tokio::time::timeout(PATIENCE, looking).await.unwrap().unwrap();
    assert_eq!(machine.node.config().unwrap().generation, 1);
}

#[tokio::test]
async fn a_machine_that_was_configured_by_somebody_else_looks_no_more() {
    let machine = Machine::new();
    let server = Server::start(|_| Reply::status(404)).await;
    let configs = configs(&machine);
    let looking = look(&machine, &configs, &server, "gcp", None);
    until(&machine, "gcp", |status| status.tries >= 2).await;
    let wanted = Wanted { document: config().into_bytes(), dry_run: false, revert_after: None, by: String::new() };
    configs.apply(wanted).await.unwrap();
    tokio::time::timeout(PATIENCE, looking).await.unwrap().unwrap();
    let asked = server.asked().len();
    // Another one that starts now does not ask at all, nor would its config be taken.
    tokio::time::timeout(PATIENCE, look(&machine, &configs, &server, "gcp", None)).await.unwrap().unwrap();
    assert_eq!(server.asked().len(), asked);
    assert!(configs.apply_first(config().into_bytes(), "source: gcp".to_owned()).await.is_err());
    assert_eq!(machine.node.config().unwrap().generation, 1);
}

#[tokio::test]
async fn an_identity_on_state_forbids_a_config_from_outside() {
    let machine = Machine::new();
    let pki = machine.node.root.pki();
    std::fs::create_dir_all(&pki).unwrap();
    std::fs::write(pki.join("machine.key"), "key").unwrap();
    let refused = configs(&machine).apply_first(config().into_bytes(), "source: aws".to_owned()).await.unwrap_err();
    assert!(refused.to_string().contains("an identity already"), "{refused}");
    assert!(machine.node.config().is_none());
}

#[tokio::test]
async fn the_url_goes_before_the_platforms_own_source() {
    let machine = Machine::new();
    let server = Server::start(|request| if request.path == "/cp.yaml" { Reply::ok(config()) } else { Reply::status(500) }).await;
    let url = format!("http://{}/cp.yaml", server.address);
    let looking = look(&machine, &configs(&machine), &server, "aws", Some(&url));
    tokio::time::timeout(PATIENCE, looking).await.unwrap().unwrap();
    assert_eq!(server.asked().len(), 1);
    assert_eq!(seen(&machine, "url").place, url);
    assert_eq!(seen(&machine, "aws").result, Outcome::Waiting);
}

#[tokio::test]
async fn a_url_that_is_not_followed_says_why() {
    let machine = Machine::new();
    let server = Server::start(|_| Reply::status(404)).await;
    let facts = Facts { platform: String::new(), url: Some("http://192.0.2.1/".to_owned()), secure_boot: SecureBoot::On };
    let looking = tokio::spawn(Watch::new(machine.node.clone(), configs(&machine), &outside(&server)).run(plan(&facts)));
    until(&machine, "nocloud", |status| status.result == Outcome::Nothing).await;
    let status = seen(&machine, "url");
    assert!(status.result == Outcome::PassedOver && status.message.contains("Secure Boot"), "{status:?}");
    assert!(machine.console().contains("corten.config is not followed"), "{}", machine.console());
    looking.abort();
}
