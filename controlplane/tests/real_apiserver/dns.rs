//! CoreDNS with our Corefile, and with no more rights than our manifests give its pod.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use controlplane::client::Client;
use controlplane::manifests::manifests;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use tokio::net::UdpSocket;

use crate::machine_under_test::{MachineUnderTest, until};

/// Where client libraries look in a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

pub async fn services_have_names(machine: &mut MachineUnderTest, admin: &Client) -> Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(admin.kube().clone(), "kube-system");
    let granted = accounts.create_token_request("coredns", &PostParams::default(), &TokenRequest::default()).await?;
    let token = granted.status.and_then(|status| status.token).context("no token")?;
    fs::create_dir_all(ACCOUNT)?;
    fs::write(Path::new(ACCOUNT).join("token"), token)?;
    fs::write(Path::new(ACCOUNT).join("ca.crt"), &machine.config.cluster.certificate_authorities.kubernetes.certificate)?;
    let corefile = machine.facts.root.path("etc/coredns/Corefile");
    fs::create_dir_all(corefile.parent().context("it has one")?)?;
    fs::write(&corefile, corefile_of(machine)?)?;
    machine.start_coredns(&corefile)?;

    for probe in ["http://127.0.0.1:8080/health", "http://127.0.0.1:8181/ready"] {
        let (server, path) = probe.rsplit_once('/').context("it has a path")?;
        let http = kube::Client::try_from(kube::Config::new(server.parse()?))?;
        until(probe, || async { Ok(http.request_text(http::Request::get(format!("/{path}")).body(Vec::new())?).await?) }).await?;
    }
    // CoreDNS says that it is ready a moment before it listens.
    until("the API server's Service has its name", || async {
        let answer = ask("kubernetes.default.svc.cluster.local").await?;
        ensure!(answer.ends_with(&[10, 96, 0, 1]), "the answer is {answer:?}");
        Ok(())
    })
    .await
}

fn corefile_of(machine: &MachineUnderTest) -> Result<String> {
    let all = manifests(&machine.config)?;
    let map = all
        .iter()
        .find(|manifest| manifest.reference.kind == "ConfigMap" && manifest.reference.name == "coredns")
        .context("no ConfigMap")?;
    Ok(map.object["data"]["Corefile"].as_str().context("no Corefile")?.to_owned())
}

/// One question for an A record (RFC 1035, 4.1); an answer with one record ends in its address.
async fn ask(name: &str) -> Result<Vec<u8>> {
    let mut question = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect("127.0.0.1:53").await?;
    socket.send(&question).await?;
    let mut answer = [0; 512];
    let length = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut answer)).await.context("no answer")??;
    Ok(answer[..length].to_vec())
}
