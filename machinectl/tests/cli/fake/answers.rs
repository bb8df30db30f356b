//! The fake machine's answers, service by service.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use api::v1::watch_resources_response::Change;
use api::v1::*;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::{Asked, Story};

#[derive(Debug, Clone)]
pub struct Answers {
    pub asked: Asked,
    pub story: Arc<Mutex<Story>>,
}

impl Answers {
    pub fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().expect("unpoisoned")
    }
}

pub type Answer<T> = Result<Response<T>, Status>;
pub type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

pub fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

pub fn stream<T: Send + 'static>(messages: Vec<T>) -> Answer<Stream<T>> {
    Ok(Response::new(Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)))))
}

pub fn with_remedy(code: Code, text: &str, remedy: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("REASON", "corten.dev", HashMap::new());
    details.add_help_link(remedy, "");
    Status::with_error_details(code, text, details)
}

fn noon() -> Option<Timestamp> {
    Some(Timestamp { seconds: 1_790_000_000, nanos: 0 })
}

#[tonic::async_trait]
impl machine_server::Machine for Answers {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        let reboots = self.asked.lines().iter().filter(|line| *line == "reboot dry_run=false").count();
        let story = self.story();
        answer(GetVersionResponse {
            version: story.version.clone(),
            profile: story.profile.to_owned(),
            architecture: "x86_64".to_owned(),
            kubernetes: story.kubernetes.to_owned(),
            kernel: "6.12.1".to_owned(),
            stage: "running".to_owned(),
            slot: story.slot.to_owned(),
            hostname: story.hostname.clone(),
            boot_id: format!("{} boot {}", story.address, story.boots + reboots),
        })
    }

    type GetHealthStream = Stream<GetHealthResponse>;
    /// Unhealthy; with a wait of more than half an hour, healthy in the second report.
    async fn get_health(&self, request: Request<GetHealthRequest>) -> Answer<Self::GetHealthStream> {
        let check = |name: &str, passed: bool, wrong: &str| Check {
            name: name.to_owned(),
            passed,
            message: if passed { String::new() } else { wrong.to_owned() },
        };
        let has_etcd = self.story().has_etcd;
        let report = |healthy| {
            let checks = vec![check("etcd", has_etcd, "etcd is starting"), check("kubelet", healthy, "waits for etcd")];
            GetHealthResponse { checks, healthy }
        };
        let becomes_healthy = request.into_inner().wait.is_some_and(|wait| wait.seconds > 1800);
        stream(if becomes_healthy { vec![report(false), report(true)] } else { vec![report(false)] })
    }

    async fn reboot(&self, request: Request<RebootRequest>) -> Answer<RebootResponse> {
        self.asked.note(format!("reboot dry_run={}", request.into_inner().dry_run));
        answer(RebootResponse { plan: vec!["stop 9 services".to_owned(), "reboot".to_owned()] })
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        self.asked.note(format!("shutdown dry_run={}", request.into_inner().dry_run));
        answer(ShutdownResponse { plan: vec!["power off".to_owned()] })
    }

    async fn reset(&self, request: Request<ResetRequest>) -> Answer<ResetResponse> {
        let ResetRequest { dry_run, volumes, confirm, power_off, force: _ } = request.into_inner();
        self.asked.note(format!("reset dry_run={dry_run} volumes={volumes:?} confirm={confirm} power_off={power_off}"));
        answer(ResetResponse { plan: vec!["wipe EPHEMERAL".to_owned()] })
    }

    async fn list_boots(&self, _: Request<ListBootsRequest>) -> Answer<ListBootsResponse> {
        let boot = |number, ending: &str, reason: &str| Boot {
            number,
            boot_id: format!("boot {number}"),
            slot: "a".to_owned(),
            version: "0.1.0".to_owned(),
            started_at: noon(),
            ending: ending.to_owned(),
            reason: reason.to_owned(),
            ..Boot::default()
        };
        answer(ListBootsResponse { boots: vec![boot(6, "crashed", "Kernel panic - not syncing: test"), boot(7, "running", "")] })
    }
}

#[tonic::async_trait]
impl config_server::Config for Answers {
    async fn apply(&self, request: Request<ApplyRequest>) -> Answer<ApplyResponse> {
        let ApplyRequest { document, dry_run, revert_after } = request.into_inner();
        let document = String::from_utf8(document).expect("text");
        let hostname = document.lines().find(|line| line.contains("hostname:")).unwrap_or("no hostname").trim().to_owned();
        self.asked.note(format!("apply dry_run={dry_run} revert_after={:?} {hostname}", revert_after.map(|after| after.seconds)));
        if hostname.contains("refuse-me") {
            let mut details = ErrorDetails::new();
            details.add_bad_request_violation("machine.hostname", "\"refuse-me\"; expected another name");
            return Err(Status::with_error_details(Code::InvalidArgument, "wrong", details));
        }
        let diff = "-old\n+new\n".to_owned();
        answer(ApplyResponse { generation: 4, diff, plan: vec!["restart kubelet".to_owned()], needs_reboot: true })
    }

    async fn get(&self, request: Request<GetConfigRequest>) -> Answer<GetConfigResponse> {
        let generation = request.into_inner().generation;
        if generation == Some(99) {
            return Err(with_remedy(Code::NotFound, "generation 99 is not there", "see `machinectl config list`"));
        }
        let document = format!("machine:\n  hostname: cp-1\n  kernel: {{}}\n  role: {}\n", self.story().role);
        answer(GetConfigResponse { generation: 3, document: document.into_bytes() })
    }

    async fn diff(&self, request: Request<DiffRequest>) -> Answer<DiffResponse> {
        let DiffRequest { from, to } = request.into_inner();
        let to = to.unwrap_or(3);
        let from = from.unwrap_or(to - 1);
        let diff = if from == to { String::new() } else { format!("--- {from}\n+++ {to}\n") };
        answer(DiffResponse { from, to, diff })
    }

    async fn list_generations(&self, _: Request<ListGenerationsRequest>) -> Answer<ListGenerationsResponse> {
        let generation = |number, current| Generation {
            number,
            applied_at: noon(),
            applied_by: "os:admin/alice".to_owned(),
            current,
            digest: "abc".to_owned(),
            revert_at: None,
            lines_added: 3,
            lines_removed: 1,
        };
        answer(ListGenerationsResponse { generations: vec![generation(2, false), generation(3, true)] })
    }

    async fn confirm(&self, _: Request<ConfirmRequest>) -> Answer<ConfirmResponse> {
        Err(with_remedy(Code::FailedPrecondition, "no config is being tried", "nothing to do"))
    }

    async fn rollback(&self, request: Request<RollbackRequest>) -> Answer<RollbackResponse> {
        self.asked.note(format!("rollback {:?}", request.into_inner()));
        answer(RollbackResponse { generation: 5, diff: "-new\n+old\n".to_owned() })
    }
}

fn service(name: &str, status: Value) -> Object {
    let status = status.as_object().cloned().map(api::json::to_struct);
    Object { kind: "services".to_owned(), name: name.to_owned(), revision: 7, spec: None, status }
}

fn services() -> Vec<Object> {
    let etcd = service("etcd", json!({ "state": "ready", "pid": 41, "restarts": 0 }));
    vec![etcd, service("kubelet", json!({ "state": "waiting", "after": ["containerd", "network"], "restarts": 2 }))]
}

#[tonic::async_trait]
impl resource_server::Resource for Answers {
    async fn list_kinds(&self, _: Request<ListKindsRequest>) -> Answer<ListKindsResponse> {
        let column = |heading: &str, path: &str| Column { heading: heading.to_owned(), path: path.to_owned() };
        let columns = vec![column("state", "status.state"), column("after", "status.after"), column("restarts", "status.restarts")];
        let kind = |name: &str, columns| Kind { name: name.to_owned(), description: format!("All {name}."), columns, sensitive: false };
        let upgrades = vec![column("to", "status.toVersion"), column("phase", "status.phase"), column("reason", "status.reason")];
        answer(ListKindsResponse { kinds: vec![kind("addresses", vec![]), kind("services", columns), kind("upgrades", upgrades)] })
    }

    async fn list(&self, request: Request<ListResourcesRequest>) -> Answer<ListResourcesResponse> {
        let objects = match request.into_inner().kind.as_str() {
            "nodes" => self.story().nodes(),
            "slots" => self.story().slots(),
            "upgrades" => self.story().upgrades(),
            _ => services(),
        };
        answer(ListResourcesResponse { objects })
    }

    async fn get(&self, request: Request<GetResourceRequest>) -> Answer<GetResourceResponse> {
        let name = request.into_inner().name;
        match services().into_iter().find(|object| object.name == name) {
            Some(object) => answer(GetResourceResponse { object: Some(object) }),
            None => Err(with_remedy(Code::NotFound, &format!("service {name} is not there"), "see `machinectl get services`")),
        }
    }

    type WatchStream = Stream<WatchResourcesResponse>;
    async fn watch(&self, request: Request<WatchResourcesRequest>) -> Answer<Self::WatchStream> {
        if request.into_inner().kind == "upgrades" {
            return Ok(Response::new(Box::pin(self.story().lives_on())));
        }
        let change = |change: Change, object| WatchResourcesResponse { change: change.into(), object };
        let mut changes: Vec<_> = services().into_iter().map(|object| change(Change::Put, Some(object))).collect();
        changes.push(change(Change::Synced, None));
        changes.push(change(Change::Put, Some(service("kubelet", json!({ "state": "ready", "restarts": 2 })))));
        changes.push(change(Change::Removed, Some(service("etcd", json!({})))));
        stream(changes)
    }
}

#[tonic::async_trait]
impl service_control_server::ServiceControl for Answers {
    async fn start(&self, request: Request<StartRequest>) -> Answer<StartResponse> {
        self.asked.note(format!("start {}", request.into_inner().service));
        answer(StartResponse { plan: vec!["start".to_owned()] })
    }

    /// Takes longer than any test waits.
    async fn stop(&self, _: Request<StopRequest>) -> Answer<StopResponse> {
        std::future::pending().await
    }

    async fn restart(&self, request: Request<RestartRequest>) -> Answer<RestartResponse> {
        let RestartRequest { service, dry_run } = request.into_inner();
        self.asked.note(format!("restart {service} dry_run={dry_run}"));
        answer(RestartResponse { plan: vec![format!("stop {service}"), format!("start {service}")] })
    }
}

#[tonic::async_trait]
impl log_server::Log for Answers {
    type StreamStream = Stream<StreamResponse>;
    async fn stream(&self, request: Request<StreamRequest>) -> Answer<Self::StreamStream> {
        self.asked.note(format!("{:?}", request.into_inner()));
        let chunk = |lines: &[u8]| StreamResponse { lines: lines.to_vec() };
        stream(vec![chunk(b"one\ntwo\n"), chunk(b"three \xff\n")])
    }

    type DmesgStream = Stream<DmesgResponse>;
    async fn dmesg(&self, _: Request<DmesgRequest>) -> Answer<Self::DmesgStream> {
        stream(vec![DmesgResponse { line: "[    0.000000] Linux version 6.12".to_owned() }])
    }

    type EventsStream = Stream<EventsResponse>;
    async fn events(&self, _: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        let event = Event { at: noon(), subject: "service/kubelet".to_owned(), reason: "Started".to_owned(), message: "pid 7".to_owned() };
        stream(vec![EventsResponse { event: Some(event) }])
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Answers {
    async fn bootstrap(&self, request: Request<BootstrapRequest>) -> Answer<BootstrapResponse> {
        self.asked.note(format!("bootstrap dry_run={}", request.into_inner().dry_run));
        answer(BootstrapResponse { plan: vec!["start etcd as a new cluster".to_owned()], already_bootstrapped: false })
    }

    async fn get_kubeconfig(&self, request: Request<GetKubeconfigRequest>) -> Answer<GetKubeconfigResponse> {
        if let Some(kubeconfig) = self.story().kubeconfig.clone() {
            return answer(GetKubeconfigResponse { kubeconfig });
        }
        self.asked.note(format!("kubeconfig valid_for={:?}", request.into_inner().valid_for.map(|valid| valid.seconds)));
        let auth = controlplane::kubeconfig::Auth::Embedded { certificate: "CERTIFICATE", key: &machine::config::Secret::new("KEY") };
        let kubeconfig =
            controlplane::kubeconfig::render("demo", "https://192.0.2.10:6443", "AUTHORITY", "admin", auth).expect("a kubeconfig");
        answer(GetKubeconfigResponse { kubeconfig })
    }

    async fn issue_certificate(&self, _: Request<IssueCertificateRequest>) -> Answer<IssueCertificateResponse> {
        Err(Status::permission_denied("for machines that join"))
    }

    async fn get_authority_keys(&self, _: Request<GetAuthorityKeysRequest>) -> Answer<GetAuthorityKeysResponse> {
        Err(Status::permission_denied("for machines that have joined"))
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Answer<CreateTokenResponse> {
        let request = request.into_inner();
        let valid_for = request.valid_for.map(|valid_for| valid_for.seconds);
        self.asked.note(format!("token role={:?} node={} valid_for={valid_for:?}", request.role(), request.node));
        let created = Token { id: "abcdef".to_owned(), node: request.node, role: request.role, ..Token::default() };
        answer(CreateTokenResponse { token: "abcdef.0123456789abcdef".to_owned(), created: Some(created) })
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Answer<ListTokensResponse> {
        let made = Token {
            id: "abcdef".to_owned(),
            role: MachineRole::Worker.into(),
            node: "worker-1".to_owned(),
            expires_at: noon(),
            revoked: true,
            created_by: "os:admin/alice".to_owned(),
        };
        answer(ListTokensResponse { tokens: vec![made, Token { id: "ghijkl".to_owned(), ..Token::default() }] })
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Answer<RevokeTokenResponse> {
        let id = request.into_inner().id;
        if id == "nobody" {
            return Err(with_remedy(Code::NotFound, "join token nobody is not there", "see machinectl token list"));
        }
        self.asked.note(format!("revoke token {id}"));
        answer(RevokeTokenResponse {})
    }

    async fn list_machines(&self, _: Request<ListMachinesRequest>) -> Answer<ListMachinesResponse> {
        let machine = JoinedMachine {
            node: "worker-1".to_owned(),
            role: MachineRole::Worker.into(),
            addresses: vec!["192.0.2.20".to_owned()],
            token: "abcdef".to_owned(),
            joined_at: noon(),
            revoked: false,
        };
        answer(ListMachinesResponse { machines: vec![machine] })
    }

    async fn revoke_machine(&self, request: Request<RevokeMachineRequest>) -> Answer<RevokeMachineResponse> {
        self.asked.note(format!("revoke machine {}", request.into_inner().node));
        answer(RevokeMachineResponse {})
    }
}

#[tonic::async_trait]
impl image_server::Image for Answers {
    async fn import(&self, request: Request<Streaming<ImportRequest>>) -> Answer<ImportResponse> {
        let (mut chunks, mut bytes, mut sum) = (request.into_inner(), 0, 0_u64);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?.chunk;
            assert!(chunk.len() <= 1 << 20);
            bytes += chunk.len();
            sum = chunk.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        }
        self.asked.note(format!("import {bytes} bytes {sum:x}"));
        answer(ImportResponse { names: vec!["hello:1".to_owned()] })
    }

    async fn list(&self, _: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let image = ContainerImage { name: "hello:1".to_owned(), digest: "sha256:ab".to_owned(), created_at: noon() };
        answer(ListImagesResponse { images: vec![image] })
    }
}

#[tonic::async_trait]
impl file_server::File for Answers {
    type ListStream = Stream<ListFilesResponse>;
    async fn list(&self, _: Request<ListFilesRequest>) -> Answer<Self::ListStream> {
        let entry = |name: &str, mode, target: &str| FileEntry {
            name: name.to_owned(),
            size_bytes: 12,
            mode,
            user_id: 0,
            modified_at: noon(),
            target: target.to_owned(),
        };
        let entries = [entry("hosts", 0o100_644, ""), entry("localtime", 0o120_777, "/usr/share/zoneinfo/UTC")];
        stream(entries.map(|entry| ListFilesResponse { entry: Some(entry) }).to_vec())
    }

    type ReadStream = Stream<ReadResponse>;
    async fn read(&self, request: Request<ReadRequest>) -> Answer<Self::ReadStream> {
        let path = request.into_inner().path;
        if path != "/etc/hosts" {
            return Err(with_remedy(Code::PermissionDenied, &format!("{path} holds keys"), "nobody may read it"));
        }
        stream(vec![ReadResponse { chunk: b"127.0.0.1 ".to_vec() }, ReadResponse { chunk: b"localhost\n".to_vec() }])
    }
}

#[tonic::async_trait]
impl capture_server::Capture for Answers {
    type PacketsStream = Stream<PacketsResponse>;
    async fn packets(&self, request: Request<PacketsRequest>) -> Answer<Self::PacketsStream> {
        let PacketsRequest { filter, limits } = request.into_inner();
        let (filter, limits) = (filter.unwrap_or_default(), limits.unwrap_or_default());
        let PacketFilter { link, host, port, .. } = &filter;
        let PacketLimits { packets, bytes, time, packet_bytes } = &limits;
        let seconds = time.as_ref().map(|time| time.seconds);
        let filtered = format!("{link} {} {host} {port}", filter.protocol().as_str_name());
        self.asked.note(format!("packets {filtered}; {packets} {bytes} {seconds:?} {packet_bytes}"));
        let piece = |chunk: &str, packets, end: PacketsEnd| PacketsResponse { chunk: chunk.into(), packets, dropped: 0, end: end.into() };
        let (goes_on, over) = (PacketsEnd::Unspecified, PacketsEnd::Packets);
        stream(vec![piece("head ", 0, goes_on), piece("packets", 2, goes_on), piece("", 2, over)])
    }
}
