//! A worker's requests when the API server dies that it joined by: they go through the balancer to another one, within a stated time; also when it
//! hangs instead, and also those of a worker that starts while only the other one is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controlplane::client::Client;
use controlplane::pki::CertificateId;
use k8s_openapi::api::core::v1::{Node as KubernetesNode, Service};
use kube::Api;
use kube::api::ListParams;
use nix::sys::signal::Signal;

use super::machines::{Joiner, Lan, address};
use super::{its_kubelet_registers, joined};
use crate::controllers::api;
use crate::controllers::pki::Keyring;
use crate::controllers::real_cluster::machine_under_test::until;
use crate::node::Node;
use crate::resources::api_servers::Membership;
use crate::resources::cluster::ApiServer;

/// The balancer's own part takes 8 s at most; the rest is for processors that others want as well.
const WITHIN: Duration = Duration::from_secs(30);
const WHO: [CertificateId; 3] = [CertificateId::KubeletClient, CertificateId::KubeProxy, CertificateId::Agent];

#[test]
fn a_workers_requests_go_to_another_api_server() -> Result<()> {
    Lan::new()?.run(async |lan| {
        lan.start_control_plane().await?;
        check(lan).await
    })
}

async fn check(lan: &mut Lan) -> Result<()> {
    let worker = lan.join("worker-1", 101, lan.worker()).await?;
    joined(&worker).await?;
    worker.run(its_kubelet_registers).await?;
    // While there is no other, all go to this one.
    let requests = probe(&worker).await?;
    let further = lan.start_further_api_server("cp-2", 11).await?;
    knows_both(&worker).await?;
    lan.kill_api_server()?;
    within("the API server was killed", &requests, Instant::now()).await?;

    // And now to that one.
    lan.start_api_server().await?;
    ready(&worker, 10).await?;
    further.signal(Signal::SIGSTOP)?;
    within("the API server hangs", &requests, Instant::now()).await?;
    further.signal(Signal::SIGCONT)?;
    ready(&worker, 11).await?;

    let disk = worker.cut_power();
    lan.kill_api_server()?;
    let began = Instant::now();
    // Its config names the first one alone.
    let worker = lan.boot("worker-1", 101, lan.worker(), disk).await?;
    let requests = probe(&worker).await?;
    within("the worker started", &requests, began).await
}

async fn knows_both(worker: &Joiner) -> Result<()> {
    until("the worker knows both API servers", || async {
        let members = worker.node.store.get::<Membership>(Membership::NAME).context("none yet")?;
        ensure!(members.addresses.len() == 2, "{members:?}");
        Ok(())
    })
    .await?;
    ready(worker, 11).await
}

async fn ready(worker: &Joiner, last: u8) -> Result<()> {
    until("the API server is balanced", || async {
        let servers = worker.node.store.all::<ApiServer>();
        let found = servers.iter().any(|(_, server)| server.address.ip() == address(last) && server.ready);
        ensure!(found, "{servers:?}");
        Ok(())
    })
    .await
}

/// When requests were made that were answered.
type Requests = Arc<Mutex<BTreeMap<CertificateId, Instant>>>;

/// Requests without end, as each of the worker's programs makes them.
async fn probe(worker: &Joiner) -> Result<Requests> {
    let requests = Requests::default();
    let noted = requests.clone();
    worker
        .run(move |node, name| async move {
            for id in WHO {
                tokio::spawn(ask(node.clone(), name.clone(), id, noted.clone()));
            }
            Ok(())
        })
        .await?;
    until("all are answered", || async {
        ensure!(answered(&requests).len() == WHO.len(), "{:?}", answered(&requests));
        Ok(())
    })
    .await?;
    Ok(requests)
}

fn answered(requests: &Requests) -> BTreeMap<CertificateId, Instant> {
    requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn ask(node: Node, name: String, id: CertificateId, noted: Requests) {
    let mut client: Option<Client> = None;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (Some(config), Some(issued)) = (node.joined_config(), Keyring::default().get(&node, id)) else { continue };
        let client = client.get_or_insert_with(|| api::balanced(&config, &issued).expect("a client"));
        let made = Instant::now();
        let answer = match id {
            CertificateId::KubeProxy => Api::<Service>::all(client.kube().clone()).list(&ListParams::default()).await.map(drop),
            _ => Api::<KubernetesNode>::all(client.kube().clone()).get(&name).await.map(drop),
        };
        if answer.is_ok() {
            noted.lock().unwrap_or_else(PoisonError::into_inner).insert(id, made);
        }
    }
}

async fn within(what: &str, requests: &Requests, since: Instant) -> Result<()> {
    until("all are answered again", || async {
        let answered = answered(requests);
        ensure!(answered.values().all(|made| *made > since), "{answered:?}, since {since:?}");
        Ok(())
    })
    .await
    .with_context(|| what.to_owned())?;
    let took = since.elapsed();
    eprintln!("{what}: all requests are answered again after {took:?}");
    ensure!(took < WITHIN, "{what}: requests were answered after {took:?}");
    Ok(())
}
