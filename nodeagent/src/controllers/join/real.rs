//! Machines join through a real agent, against a real API server, etcd and controller manager; each machine in a network of its own.
//!
//! Needs root, for namespaces, and the components that `make components` builds; it fails without them.

mod failover;
mod hostile;
mod load;
pub mod machines;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use controlplane::pki::{self, AuthorityId, Certificate, CertificateId};
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Service};
use kube::Api;
use kube::api::PostParams;
use machine::config::{Config, Role};

use crate::admission::token::TokenRecord;
use crate::admission::tokens::Purpose;
use crate::admission::{Admission, record};
use crate::controllers::api;
use crate::controllers::pki::Keyring;
use crate::controllers::real_cluster::machine_under_test::until;
use crate::resources::api_servers::Membership;
use crate::resources::authorities::HeldKey;
use crate::resources::join::{JoinState, JoinStatus};
use crate::store::Resource;
use machines::{Joiner, Lan};

#[test]
fn machines_join() -> Result<()> {
    Lan::new()?.run(async |lan| {
        lan.start_control_plane().await?;
        check(lan).await
    })
}

#[test]
fn machines_join_over_ipv6_alone() -> Result<()> {
    Lan::ipv6()?.run(async |lan| {
        lan.start_control_plane().await?;
        let worker = lan.join("worker-1", 101, lan.worker()).await?;
        joined(&worker).await?;
        its_certificates_are_the_clusters(&worker)?;
        worker.run(its_kubelet_registers).await?;
        let machines = lan.admission()?.machines().await?;
        ensure!(machines.iter().any(|machine| machine.addresses == [lan.address(101)]), "{machines:?}");
        the_cluster_gives_ipv6(lan.super_user()?.kube()).await?;
        until("the worker hears of the API server", || async {
            let members = worker.node.store.get::<Membership>(Membership::NAME).context("none yet")?;
            let expected = std::net::SocketAddr::new(lan.address(10), 6443);
            ensure!(members.addresses.iter().eq([&expected]), "{members:?}");
            Ok(())
        })
        .await?;
        let further = lan.join("cp-2", 11, lan.further_control_plane()).await?;
        joined(&further).await
    })
}

/// To nodes for their pods, and to Services.
async fn the_cluster_gives_ipv6(client: &kube::Client) -> Result<()> {
    until("the worker has a network for its pods", || async {
        let node = Api::<KubernetesNode>::all(client.clone()).get("worker-1").await?;
        let networks = node.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
        ensure!(networks.len() == 1 && networks[0].starts_with("fd00:1:") && networks[0].ends_with("/64"), "{networks:?}");
        Ok(())
    })
    .await?;
    let service = Api::<Service>::namespaced(client.clone(), "default").get("kubernetes").await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    ensure!(address == "fd00:2::1", "{address:?}");
    Ok(())
}

async fn check(lan: &Lan) -> Result<()> {
    let worker = lan.join("worker-1", 101, lan.worker()).await?;
    joined(&worker).await?;
    its_certificates_are_the_clusters(&worker)?;
    worker.run(its_kubelet_registers).await?;

    a_wrong_token_is_told_and_the_right_one_helps(lan).await?;
    a_name_is_taken_once(lan).await?;
    a_further_control_plane_gets_the_keys(lan).await?;
    a_token_lets_in_one_machine_until_it_is_revoked(lan).await?;
    Ok(())
}

async fn joined(machine: &Joiner) -> Result<()> {
    let began = SystemTime::now();
    until("the machine has joined", || async {
        let status = machine.node.store.get::<JoinStatus>(JoinStatus::NAME).context("nothing told yet")?;
        ensure!(status.state == JoinState::Joined, "{status:?}, {:?}", machine.controllers());
        // What lies on the disk is told of on the board a moment later.
        let mut keyring = Keyring::default();
        for id in CertificateId::ALL.into_iter().filter(|id| !id.is_control_plane()) {
            keyring.get(&machine.node, id).with_context(|| format!("{id}"))?;
        }
        Ok(())
    })
    .await?;
    eprintln!("{} joined after {:?}", machine.name, began.elapsed()?);
    Ok(())
}

async fn stopped_by(machine: &Joiner, reason: &str) -> Result<JoinStatus> {
    until("the join is refused", || async {
        let status = machine.node.store.get::<JoinStatus>(JoinStatus::NAME).context("nothing told yet")?;
        ensure!(status.reason == reason, "{status:?}");
        Ok(status)
    })
    .await
}

fn config(machine: &Joiner) -> Result<std::sync::Arc<Config>> {
    machine.node.joined_config().context("it has a config")
}

fn its_certificates_are_the_clusters(machine: &Joiner) -> Result<()> {
    let config = config(machine)?;
    let mut keyring = Keyring::default();
    for id in CertificateId::ALL.into_iter().filter(|id| !id.is_control_plane()) {
        let issued = keyring.get(&machine.node, id).with_context(|| format!("{id}"))?;
        let authority = &id.authority().of(&config.cluster.certificate_authorities).certificate;
        pki::verify_chain(&issued.certificate_pem, authority, SystemTime::now()).with_context(|| format!("{id}"))?;
    }
    let machine_certificate = keyring.get(&machine.node, CertificateId::Machine).context("machine")?;
    let certificate = Certificate::inspect(&machine_certificate.certificate_pem)?;
    ensure!(certificate.organizations == ["os:machine"] && certificate.common_name == machine.name, "{certificate:?}");
    Ok(())
}

/// As the kubelet does, with the kubelet's certificate and through the balancer.
async fn its_kubelet_registers(node: crate::node::Node, name: String) -> Result<()> {
    let config = node.joined_config().context("a config")?;
    let kubelet = Keyring::default().get(&node, CertificateId::KubeletClient).context("kubelet-client")?;
    let client = api::balanced(&config, &kubelet)?;
    let nodes = Api::<KubernetesNode>::all(client.kube().clone());
    let mut object = KubernetesNode::default();
    object.metadata.name = Some(name.clone());
    nodes.create(&PostParams::default(), &object).await.context("registering")?;
    let mut other = KubernetesNode::default();
    other.metadata.name = Some("cp-9".to_owned());
    ensure!(nodes.create(&PostParams::default(), &other).await.is_err(), "the kubelet registers another node");

    let agent = Keyring::default().get(&node, CertificateId::Agent).context("agent")?;
    let client = api::balanced(&config, &agent)?;
    let seen = Api::<KubernetesNode>::all(client.kube().clone()).get(&name).await.context("the agent sees its node")?;
    ensure!(seen.metadata.name.as_deref() == Some(name.as_str()), "{seen:?}");
    Ok(())
}

async fn a_wrong_token_is_told_and_the_right_one_helps(lan: &Lan) -> Result<()> {
    let mut config = lan.worker();
    config.cluster.join_token = Some(machine::config::Secret::new("abcdef.0123456789abcdef"));
    let worker = lan.join("worker-2", 102, config).await?;
    let status = stopped_by(&worker, "TOKEN_UNKNOWN").await?;
    ensure!(status.message.contains("the join token is wrong; put a token") && !status.retry_at.is_empty(), "{status:?}");
    ensure!(!worker.node.root.pki().join("machine.crt").exists() && !worker.node.root.kubelet_pki().exists(), "half joined");
    ensure!(worker.console().contains("joining the cluster: "), "{}", worker.console());
    worker.set_config(lan.worker(), 2);
    joined(&worker).await
}

async fn a_name_is_taken_once(lan: &Lan) -> Result<()> {
    let impostor = lan.join("worker-1", 103, lan.worker()).await?;
    let status = stopped_by(&impostor, "NAME_TAKEN").await?;
    ensure!(status.message.contains("another machine of the cluster is called worker-1; set machine.hostname"), "{status:?}");
    Ok(())
}

async fn a_token_lets_in_one_machine_until_it_is_revoked(lan: &Lan) -> Result<()> {
    let admission = lan.admission()?;
    let node = Some("worker-4".to_owned());
    let purpose = Purpose { role: Role::Worker, node, valid_for: None, by: "os:admin/alice".to_owned() };
    let (token, record) = admission.create_token(purpose).await?;
    let mut config = lan.worker();
    let own = config.cluster.join_token.replace(machine::config::Secret::new(token.clone())).context("a token")?;
    joined(&lan.join("worker-4", 104, config.clone()).await?).await?;
    let machine = admission.machines().await?.into_iter().find(|machine| machine.node == "worker-4").context("no record")?;
    ensure!(machine.token == record.id && machine.addresses == ["192.0.2.104".parse::<std::net::IpAddr>()?], "{machine:?}");
    stopped_by(&lan.join("worker-5", 105, config.clone()).await?, "TOKEN_NODE").await?;

    // The one of the machine config can be revoked too.
    let own = own.reveal().split_once('.').context("an id")?.0.to_owned();
    for id in [&record.id, &own] {
        admission.revoke_token(id, "os:admin/alice").await?;
        admission.revoke_token(id, "os:admin/alice").await.context("again")?;
    }
    let tokens = admission.tokens().await?;
    ensure!(tokens.len() == 2 && tokens.iter().all(|token| token.revoked), "{tokens:?}");
    ensure!(admission.revoke_token("nobody", "").await.is_err(), "a token that is not there is revoked");
    stopped_by(&lan.join("worker-6", 106, lan.worker()).await?, "TOKEN_REVOKED").await?;

    admission.revoke_machine("worker-4", "os:admin/alice").await?;
    ensure!(admission.machines().await?.iter().any(|machine| machine.node == "worker-4" && machine.revoked), "not revoked");
    let refusal = admission.revoke_machine(&lan.control_plane_name(), "").await.expect_err("a control plane").to_string();
    ensure!(refusal.contains("of etcd"), "{refusal}");
    admission.revoke_machine("cp-2", "os:admin/alice").await.context("a control plane without a member of etcd")?;
    what_ended_long_ago_is_deleted(lan, &admission).await
}

async fn what_ended_long_ago_is_deleted(lan: &Lan, admission: &Admission) -> Result<()> {
    let client = lan.super_user()?;
    let token =
        |id: &str, expires| TokenRecord { expires, ..TokenRecord::of_config(&format!("{id}.0123456789abcdef").parse().expect("a token")) };
    let now = crate::clock::wall_seconds();
    for old in [token("old001", Some(now - 8 * 86_400)), token("new001", Some(now - 86_400)), token("always", None)] {
        record::write_token(&client, None, &old).await?;
    }
    let purpose = Purpose { role: Role::Worker, node: None, valid_for: None, by: String::new() };
    admission.create_token(purpose).await?;
    let left: Vec<String> = admission.tokens().await?.into_iter().map(|token| token.id).collect();
    let has = |id: &str| left.iter().any(|left| left == id);
    ensure!(!has("old001") && has("new001") && has("always"), "{left:?}");
    ensure!(record::has_ended(&client, "old001").await? && !record::has_ended(&client, "new001").await?, "its id is not kept");
    Ok(())
}

async fn a_further_control_plane_gets_the_keys(lan: &Lan) -> Result<()> {
    let further = lan.join("cp-2", 11, lan.further_control_plane()).await?;
    joined(&further).await?;
    ensure!(
        further.node.config().context("a config")?.config.cluster.certificate_authorities.kubernetes.key.is_none(),
        "the document stays"
    );
    let config = config(&further)?;
    ensure!(AuthorityId::ALL.iter().all(|id| id.of(&config.cluster.certificate_authorities).key.is_some()), "keys are missing");
    let mode = std::fs::metadata(further.node.root.authority_keys())?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    ensure!(further.node.store.list(HeldKey::KIND).len() == 6, "the board does not tell");
    api::super_user(&config).context("it cannot be the super-user")?;
    let kubeconfig = crate::server::cluster::admin_kubeconfig(&config, "alice", PATIENCE)?;
    ensure!(kubeconfig.contains("client-certificate-data"), "{kubeconfig}");
    until("it has all certificates of a control plane", || async {
        let mut keyring = Keyring::default();
        let missing: Vec<_> = CertificateId::ALL.into_iter().filter(|id| keyring.get(&further.node, *id).is_none()).collect();
        ensure!(missing.is_empty(), "{missing:?}");
        Ok(())
    })
    .await
}

/// A test may take so long before its parts count as stuck.
pub const PATIENCE: Duration = Duration::from_secs(30);
