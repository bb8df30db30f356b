//! A kubelet that writes its Lease and reads it back, over a new connection each time, by the certificate that its machine has just then and
//! through the machine's balancer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use controlplane::pki::CertificateId;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::machines::Unit;
use crate::controllers::api;
use crate::controllers::pki::Keyring;
use crate::controllers::real_cluster::machine_under_test::until;
use crate::node::Node;

const PAUSE: Duration = Duration::from_millis(100);
/// A call is tried again, as Kubernetes' own clients do where a connection ends under it; so long it may take in all.
const DEADLINE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicU64,
    retries: AtomicU64,
    ends: AtomicBool,
    ended: AtomicBool,
    slowest: Mutex<Duration>,
    failure: Mutex<Option<String>>,
}

impl Traffic {
    pub async fn start(worker: &Unit) -> Result<Traffic> {
        let traffic = Traffic::default();
        let (shared, name) = (traffic.0.clone(), worker.name.clone());
        worker.begin(move |node| run(shared, node, name)).await?;
        until("the first call is answered", || async {
            traffic.check()?;
            ensure!(traffic.calls() > 0, "none yet");
            Ok(())
        })
        .await?;
        Ok(traffic)
    }

    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Since this was asked last, and how often a call was tried again in all.
    pub fn slowest(&self) -> (Duration, u64) {
        (std::mem::take(&mut *self.0.slowest.lock().unwrap()), self.0.retries.load(Ordering::Relaxed))
    }

    pub fn check(&self) -> Result<()> {
        match &*self.0.failure.lock().unwrap() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    pub async fn stop(&self) -> Result<()> {
        self.0.ends.store(true, Ordering::Relaxed);
        until("the last call is answered", || async {
            ensure!(self.0.ended.load(Ordering::Relaxed), "not yet");
            Ok(())
        })
        .await?;
        self.check()
    }
}

async fn run(shared: Arc<Shared>, node: Node, name: String) {
    let mut keyring = Keyring::default();
    let mut number = 0;
    while !shared.ends.load(Ordering::Relaxed) {
        number += 1;
        let began = Instant::now();
        let outcome = loop {
            match call(&node, &mut keyring, &name, number).await {
                Err(_) if began.elapsed() < DEADLINE => {
                    shared.retries.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => break outcome,
            }
        };
        if let Err(error) = outcome {
            *shared.failure.lock().unwrap() = Some(format!("call {number}: {error:#}"));
            break;
        }
        shared.calls.fetch_add(1, Ordering::Relaxed);
        {
            let mut slowest = shared.slowest.lock().unwrap();
            *slowest = began.elapsed().max(*slowest);
        }
        tokio::time::sleep(PAUSE).await;
    }
    shared.ended.store(true, Ordering::Relaxed);
}

/// What was acknowledged is there afterwards.
async fn call(node: &Node, keyring: &mut Keyring, name: &str, number: i32) -> Result<()> {
    let config = node.joined_config().context("a config")?;
    let kubelet = keyring.get(node, CertificateId::KubeletClient).context("certificate kubelet-client")?;
    let leases: Api<Lease> = Api::namespaced(api::balanced(&config, &kubelet)?.kube().clone(), "kube-node-lease");
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name },
        "spec": { "holderIdentity": name, "leaseTransitions": number },
    });
    let within = |what| move |_| anyhow::anyhow!("{what}: no answer");
    let (params, patch) = (PatchParams::apply("kubelet").force(), Patch::Apply(&lease));
    let written = leases.patch(name, &params, &patch);
    tokio::time::timeout(Duration::from_secs(5), written).await.map_err(within("writing"))?.context("writing")?;
    let read = tokio::time::timeout(Duration::from_secs(5), leases.get(name)).await.map_err(within("reading"))?.context("reading")?;
    let found = read.spec.and_then(|spec| spec.lease_transitions);
    ensure!(found == Some(number), "{found:?} was read after {number} was written");
    Ok(())
}
