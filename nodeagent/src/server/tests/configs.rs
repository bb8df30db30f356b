//! Applying configs over the API.

use std::time::Duration;

use api::v1::config_client::ConfigClient;
use api::v1::{ApplyRequest, ApplyResponse, ConfirmRequest, GetConfigRequest, ListGenerationsRequest, RollbackRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::harness::{Machine, config, config_with_watchdog};

async fn apply(client: &mut ConfigClient<Channel>, document: String, dry_run: bool) -> Result<ApplyResponse, Status> {
    let request = ApplyRequest { document: document.into_bytes(), dry_run, revert_after: None };
    Ok(client.apply(request).await?.into_inner())
}

/// Its time-out in force, in seconds.
fn watchdog(machine: &Machine) -> u64 {
    machine.node.config().unwrap().config.machine.watchdog.timeout.0.as_secs()
}

#[tokio::test]
async fn a_change_is_shown_before_it_is_made_and_made_once() {
    let machine = Machine::configured().await;
    let mut client = ConfigClient::new(machine.admin().await);

    let same = apply(&mut client, config(), false).await.unwrap();
    assert_eq!((same.generation, same.diff.as_str(), same.plan.len()), (1, "", 0));

    let shown = apply(&mut client, config_with_watchdog("90s"), true).await.unwrap();
    assert_eq!(shown.generation, 1);
    assert!(shown.diff.contains("+    timeout: 90s"), "{}", shown.diff);
    assert!(!shown.diff.contains("PRIVATE KEY"), "{}", shown.diff);
    assert_eq!(shown.plan.first().map(String::as_str), Some("set the watchdog's timeout"));

    for _ in 0..2 {
        assert_eq!(apply(&mut client, config_with_watchdog("90s"), false).await.unwrap().generation, 2);
    }
    assert_eq!(watchdog(&machine), 90);

    let generations = client.list_generations(ListGenerationsRequest {}).await.unwrap().into_inner().generations;
    let told: Vec<_> =
        generations.iter().map(|generation| (generation.number, generation.current, generation.applied_by.as_str())).collect();
    assert_eq!(told, [(1, false, ""), (2, true, "os:admin/alice")]);

    let back = client.rollback(RollbackRequest::default()).await.unwrap().into_inner();
    assert_eq!(back.generation, 3);
    assert!(back.diff.contains("-    timeout: 90s"), "{}", back.diff);
    assert_eq!(watchdog(&machine), 60);
}

#[tokio::test]
async fn a_broken_config_is_refused_field_by_field_and_the_running_one_stays() {
    let machine = Machine::configured().await;
    let mut client = ConfigClient::new(machine.admin().await);
    let misspelt = config().replacen("\nmachine:\n", "\nmachine:\n  hostnam: x\n", 1);
    let refused = apply(&mut client, misspelt, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    let violation = violations.iter().find(|violation| violation.field == "machine.hostnam").unwrap();
    assert!(violation.description.starts_with("line ") && violation.description.contains("hostname"), "{violation:?}");

    for broken in [String::new(), "{".to_owned(), "kind: Pod".to_owned(), config().replacen("certificateAuthorities", "authorities", 1)] {
        assert_eq!(apply(&mut client, broken, false).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let binary = ApplyRequest { document: vec![0xff, 0xfe], ..Default::default() };
    assert_eq!(client.apply(binary).await.unwrap_err().code(), Code::InvalidArgument);

    let kept = client.get(GetConfigRequest::default()).await.unwrap().into_inner();
    assert_eq!((kept.generation, String::from_utf8(kept.document).unwrap()), (1, config()));
}

#[tokio::test]
async fn generations_that_are_not_there_are_named() {
    let machine = Machine::configured().await;
    let mut client = ConfigClient::new(machine.admin().await);
    let refused = client.get(GetConfigRequest { generation: Some(7) }).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "generation 7 is not there"));
    assert!(refused.get_details_help().is_some_and(|help| help.links[0].description.contains("machinectl")));
    let refused = client.rollback(RollbackRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_trial_shows_until_when_and_is_confirmed() {
    let machine = Machine::configured().await;
    let mut client = ConfigClient::new(machine.admin().await);
    let revert_after = Some(prost_types::Duration::try_from(Duration::from_secs(600)).unwrap());
    let request = ApplyRequest { document: config_with_watchdog("90s").into_bytes(), dry_run: false, revert_after };
    assert_eq!(client.apply(request).await.unwrap().into_inner().generation, 2);
    let generations = client.list_generations(ListGenerationsRequest {}).await.unwrap().into_inner().generations;
    assert!(generations[1].revert_at.is_some() && generations[0].revert_at.is_none());
    assert_eq!(client.confirm(ConfirmRequest {}).await.unwrap().into_inner().generation, 2);
    let generations = client.list_generations(ListGenerationsRequest {}).await.unwrap().into_inner().generations;
    assert!(generations.iter().all(|generation| generation.revert_at.is_none()));

    for seconds in [-1, 0, 1_000_000] {
        let revert_after = Some(prost_types::Duration { seconds, nanos: 0 });
        let refused = client.apply(ApplyRequest { document: config().into_bytes(), dry_run: false, revert_after }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{seconds}");
    }
}
