//! Who gets in: certificates, roles, stages.

use std::time::{Duration, SystemTime};

use api::v1::config_client::ConfigClient;
use api::v1::machine_client::MachineClient;
use api::v1::{ApplyRequest, GetConfigRequest, GetVersionRequest, RebootRequest};
use controlplane::pki::{Authority, MachineRole, Usage, machine_client};
use http::uri::PathAndQuery;
use machine::protocol::VolumeState;
use machine::stage::Stage;
use rustls::ClientConfig;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::harness::{DAY, Machine, config, issue, tls12, tls13, without_certificate};

/// Under TLS 1.3 a client learns only with its first answer that its certificate was refused.
async fn is_refused(machine: &Machine, client: ClientConfig) -> bool {
    match machine.connect(client).await {
        Err(_) => true,
        Ok(channel) => MachineClient::new(channel).get_version(GetVersionRequest {}).await.is_err(),
    }
}

async fn call(channel: Channel, path: &'static str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(Request::new(()), PathAndQuery::from_static(path), codec).await.map(drop)
}

#[tokio::test]
async fn strangers_do_not_get_into_a_configured_machine_and_are_told_of() {
    let machine = Machine::configured().await;
    assert!(!is_refused(&machine, tls13(&issue("alice", Some("os:reader"), Usage::Client, DAY, SystemTime::now()))).await);

    assert!(is_refused(&machine, without_certificate()).await);
    machine.until_event("somebody without a certificate from 127.0.0.1").await;

    let foreign = Authority::generate("machine API", SystemTime::now(), DAY).unwrap();
    let mallory = foreign.issue(&machine_client(MachineRole::Admin, "mallory", DAY), SystemTime::now()).unwrap();
    assert!(is_refused(&machine, tls13(&mallory)).await);
    machine.until_event("os:admin/mallory from 127.0.0.1").await;

    let late = issue("late", Some("os:admin"), Usage::Client, Duration::from_secs(60), SystemTime::now() - 2 * DAY);
    assert!(is_refused(&machine, tls13(&late)).await);
    assert!(machine.until_event("os:admin/late from 127.0.0.1").await.contains("xpired"));

    let server = issue("server", Some("os:admin"), Usage::Server, DAY, SystemTime::now());
    assert!(is_refused(&machine, tls13(&server)).await);

    assert!(is_refused(&machine, tls12()).await);
    assert_eq!(machine.node.stage(), Stage::Booting);
}

#[tokio::test]
async fn a_reader_does_not_do_what_admins_do() {
    let machine = Machine::configured().await;
    let mut reader = ConfigClient::new(machine.client(MachineRole::Reader).await.unwrap());
    let refused = reader.apply(ApplyRequest { document: config().into_bytes(), ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("os:admin") && refused.message().contains("os:reader"), "{refused}");
    machine.until_event("os:reader/alice from 127.0.0.1").await;

    // No role of the people at all.
    for role in [MachineRole::Machine, MachineRole::Proxy] {
        let mut other = MachineClient::new(machine.client(role).await.unwrap());
        assert_eq!(other.get_version(GetVersionRequest {}).await.unwrap_err().code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn readers_see_no_secrets_and_admins_do() {
    let machine = Machine::configured().await;
    let get = async |role| {
        let mut client = ConfigClient::new(machine.client(role).await.unwrap());
        String::from_utf8(client.get(GetConfigRequest { generation: None }).await.unwrap().into_inner().document).unwrap()
    };
    assert!(get(MachineRole::Admin).await.contains("PRIVATE KEY"));
    let masked = get(MachineRole::Reader).await;
    assert!(!masked.contains("PRIVATE KEY") && masked.contains("certificateAuthorities"), "{masked}");
}

#[tokio::test]
async fn unknown_methods_reach_nobody() {
    let machine = Machine::configured().await;
    let admin = machine.admin().await;
    for path in
        ["/corten.machine.v1.Machine/Destroy", "/corten.machine.v2.Machine/GetVersion", "/", "/corten.machine.v1.Machine/getVersion"]
    {
        assert_eq!(call(admin.clone(), path).await.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    machine.until_event("calling /corten.machine.v1.Machine/Destroy").await;
}

#[tokio::test]
async fn maintenance_answers_few_calls_and_says_where_it_is() {
    let machine = Machine::new().await;
    machine.connect_link("eth0", "192.0.2.7/24");
    let announcing = tokio::spawn(crate::announce::announce(machine.node.clone(), machine.fingerprint.clone()));
    let stranger = machine.stranger().await.unwrap();
    let version = MachineClient::new(stranger.clone()).get_version(GetVersionRequest {}).await.unwrap().into_inner();
    assert_eq!((version.stage.as_str(), version.slot.as_str()), ("maintenance", "a"));
    call(stranger.clone(), "/grpc.health.v1.Health/Check").await.unwrap();
    for path in ["/corten.machine.v1.Machine/Reset", "/corten.machine.v1.File/Read", "/corten.machine.v1.Config/Get"] {
        let refused = call(stranger.clone(), path).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{path}: {refused}");
    }
    let line =
        format!("corten: maintenance mode: machine API on 192.0.2.7:50000, certificate fingerprint sha256:{}\n", machine.fingerprint);
    assert_eq!(machine.console(), line);
    announcing.abort();
}

#[tokio::test]
async fn a_connection_of_maintenance_is_worth_nothing_afterwards() {
    let machine = Machine::new().await;
    let stranger = machine.stranger().await.unwrap();
    let mut configs = ConfigClient::new(stranger.clone());
    let applied = configs.apply(ApplyRequest { document: config().into_bytes(), ..Default::default() }).await.unwrap().into_inner();
    assert_eq!(applied.generation, 1);
    assert_eq!(machine.node.stage(), Stage::Booting);
    let refused = configs.apply(ApplyRequest { document: config().into_bytes(), ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(call(stranger, "/corten.machine.v1.Machine/GetVersion").await.unwrap_err().code(), Code::Unauthenticated);
    machine.until_event("config/1 Applied").await;
}

#[tokio::test]
async fn without_state_nobody_configures_the_machine() {
    let broken = VolumeState::Broken { reason: "superblock".to_owned() };
    let machine = Machine::with_state(broken).await;
    let stranger = machine.stranger().await.unwrap();
    let apply = ApplyRequest { document: config().into_bytes(), ..Default::default() };
    let refused = ConfigClient::new(stranger.clone()).apply(apply).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("STATE"), "{refused}");
    let mut stranger = MachineClient::new(stranger);
    assert_eq!(stranger.reboot(RebootRequest { dry_run: true, force: false }).await.unwrap_err().code(), Code::PermissionDenied);
    stranger.get_version(GetVersionRequest {}).await.unwrap();
}

#[tokio::test]
async fn readers_may_ask_what_the_api_is() {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let machine = Machine::configured().await;
    let mut client = tonic::client::Grpc::new(machine.client(MachineRole::Reader).await.unwrap());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
    let codec = tonic_prost::ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    let answer = client.streaming(Request::new(tokio_stream::once(question)), path, codec).await.unwrap().into_inner().message().await;
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.unwrap().unwrap().message_response else { panic!("no list") };
    let names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"corten.machine.v1.Config".to_owned()) && names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
}
