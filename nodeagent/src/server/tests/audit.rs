//! What the audit log says of calls.

use api::v1::audit_client::AuditClient;
use api::v1::cluster_client::ClusterClient;
use api::v1::config_client::ConfigClient;
use api::v1::machine_client::MachineClient;
use api::v1::{ApplyRequest, GetVersionRequest, IssueCertificateRequest, ReadAuditRequest};
use controlplane::pki::MachineRole;
use machine::audit::{Event, Head, Record};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;

use super::harness::{Machine, config, without_certificate};

/// The records from one on, with the chain checked.
async fn records(machine: &Machine, from: u64) -> Vec<Record> {
    let channel = machine.client(MachineRole::Reader).await.unwrap();
    let mut answers = AuditClient::new(channel).read(ReadAuditRequest { from, follow: false }).await.unwrap().into_inner();
    let mut head: Option<Head> = None;
    let mut records = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let mut at = match answer.start.as_str() {
            "" => head.take().unwrap(),
            start => start.parse().unwrap(),
        };
        for line in &answer.lines {
            let (record, next) = at.read(line).unwrap();
            records.push(record);
            at = next;
        }
        head = Some(at);
    }
    records
}

/// Until the log says so: how a call ended is written behind its answer.
pub async fn until(machine: &Machine, from: u64, count: usize) -> Vec<Record> {
    for _ in 0..500 {
        let records = records(machine, from).await;
        if records.len() >= count {
            return records;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", records(machine, from).await);
}

#[tokio::test]
async fn changes_are_recorded_with_who_what_and_how_they_ended() {
    let machine = Machine::configured().await;
    // The first config came from somebody without a certificate.
    let first = until(&machine, 0, 2).await;
    assert_eq!((first[0].call.subject.as_str(), first[0].call.method.as_str()), ("", "/corten.machine.v1.Config/Apply"));

    let request = ApplyRequest { document: b"kind: Nonsense".to_vec(), ..Default::default() };
    ConfigClient::new(machine.admin().await).apply(request.clone()).await.unwrap_err();
    let refused = until(&machine, 3, 2).await;
    assert_eq!((refused[0].call.subject.as_str(), refused[0].call.role.as_str()), ("os:admin/alice", "admin"));
    assert_eq!(refused[0].event, Event::Begun);
    let message = request.encode_to_vec();
    let body = [&[0u8][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let digest = hex::encode(Sha256::digest(&body));
    let ended = Event::Ended { begun: 3, request_sha256: digest, request_bytes: body.len() as u64, code: "INVALID_ARGUMENT".to_owned() };
    assert_eq!(refused[1].event, ended);

    let request = ApplyRequest { document: config().into_bytes(), dry_run: true, ..Default::default() };
    ConfigClient::new(machine.admin().await).apply(request).await.unwrap();
    let done = until(&machine, 5, 2).await;
    assert!(matches!(&done[1].event, Event::Ended { begun: 5, code, .. } if code == "OK"), "{done:?}");
}

#[tokio::test]
async fn what_was_denied_is_recorded_and_reading_is_not() {
    let machine = Machine::configured().await;
    until(&machine, 0, 2).await;
    let reader = machine.client(MachineRole::Reader).await.unwrap();
    MachineClient::new(reader.clone()).get_version(GetVersionRequest {}).await.unwrap();
    ConfigClient::new(reader).apply(ApplyRequest::default()).await.unwrap_err();
    let denied = until(&machine, 3, 1).await;
    assert_eq!(denied.len(), 1, "{denied:?}");
    let Event::Denied { reason } = &denied[0].event else { panic!("{denied:?}") };
    assert_eq!(
        (denied[0].call.subject.as_str(), reason.as_str()),
        ("os:reader/alice", "the call needs role os:admin, the certificate has os:reader")
    );
}

#[tokio::test]
async fn strangers_that_ask_to_join_do_not_fill_the_log() {
    let machine = Machine::configured().await;
    let before = until(&machine, 0, 2).await.last().map_or(0, |record| record.number);
    let mut stranger = ClusterClient::new(machine.connect(without_certificate()).await.unwrap());
    for _ in 0..30 {
        stranger.issue_certificate(IssueCertificateRequest::default()).await.unwrap_err();
    }
    // A change after them, to wait for: what is written is in order.
    ConfigClient::new(machine.admin().await).apply(ApplyRequest::default()).await.unwrap_err();
    let mut records = until(&machine, before + 1, 22).await;
    records.retain(|record| record.call.method.ends_with("IssueCertificate"));
    assert_eq!(records.len(), 20, "{records:?}");
    assert!(records.iter().all(|record| matches!(&record.event, Event::Denied { reason } if reason.contains("role"))), "{records:?}");
}
