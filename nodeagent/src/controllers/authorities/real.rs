//! The Kubernetes authority is rotated by `machinectl rotate ca` on machines with real agents, etcds, API servers, controller managers and schedulers, each
//! in a network of its own, while a kubelet writes and reads all the time, and the command is cut at its steps.
//!
//! Needs root, for namespaces, the components that `make components` builds, and machinectl; it fails without them.

mod machines;
mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use controlplane::pki::{self, AuthorityId, CertificateId};
use controlplane::secrets::Secrets;

use crate::controllers::real_cluster::machine_under_test::until;
use crate::resources::authorities::{AuthorityStatus, Phase};
use crate::resources::cluster::ApiServer;
use crate::resources::join::{JoinState, JoinStatus};
use machines::{Segment, Unit};
use traffic::Traffic;

#[test]
fn the_kubernetes_authority_is_rotated() -> Result<()> {
    let segment = Segment::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut units = Vec::new();
        let checked = check(&segment, &mut units).await;
        checked.with_context(|| units.iter().map(Unit::logs).collect::<String>())
    })
}

async fn check(segment: &Segment, units: &mut Vec<Unit>) -> Result<()> {
    let began = Instant::now();
    segment.generate().await?;
    for (name, last, file) in [("cp-1", 11, "controlplane.yaml"), ("cp-2", 12, "controlplane-join.yaml"), ("worker-1", 21, "worker.yaml")] {
        let unit = segment.start(name, last).await?;
        segment.machinectl(&["apply", "-f", file, "-n", &unit.address.to_string(), "--fingerprint", &unit.fingerprint]).await?;
        units.push(unit);
        if name == "cp-1" {
            segment.machinectl(&["bootstrap", "-n", "192.0.2.11"]).await?;
        }
        let unit = units.last().context("it was pushed")?;
        until("the machine is part of the cluster", || async {
            ensure!(ApiServer::any_ready(&unit.node.store), "no API server: {:?}", unit.controllers());
            let joined = unit.node.store.get::<JoinStatus>(JoinStatus::NAME).is_some_and(|status| status.state == JoinState::Joined);
            ensure!(joined || name == "cp-1", "not joined: {:?}", unit.controllers());
            ensure!(!unit.is_control_plane() || ApiServer::local_ready(&unit.node.store), "no API server here: {:?}", unit.controllers());
            Ok(())
        })
        .await?;
        eprintln!("{name} is there after {:?}", began.elapsed());
    }
    let worker = units.last().context("a worker")?;
    let traffic = Traffic::start(worker).await?;
    // Others restart etcd or API servers, and with two control planes etcd has no quorum meanwhile.
    let id = AuthorityId::Kubernetes;
    let before = secrets(segment)?;
    let calls = traffic.calls();
    let began = Instant::now();
    rotate(segment, units, id).await.with_context(|| format!("rotating {id}"))?;
    is_rotated(segment, units, id, &before)?;
    let done = traffic.calls() - calls;
    eprintln!("{id} took {:?}; {done} calls meanwhile, the slowest {:?}", began.elapsed(), traffic.slowest());
    ensure!(done > 0, "nothing was written meanwhile");
    traffic.stop().await
}

/// Cut after each step, and once in the middle of one.
async fn rotate(segment: &Segment, units: &[Unit], id: AuthorityId) -> Result<()> {
    let rotate = ["rotate", "ca", id.name(), "-y", "--wait", "7m"];
    let with = |more: &[&'static str]| [&rotate[..], more].concat();
    segment.machinectl(&with(&["--dry-run"])).await?;
    segment.machinectl(&with(&["--until", "accept"])).await?;
    stands(units, id, Phase::Accepting, 2)?;
    segment.machinectl_cut(&with(&[]), || phase(&units[0], id) == Some(Phase::Issuing)).await?;
    let until_issue = with(&["--until", "issue"]);
    tokio::select! {
        done = segment.machinectl(&until_issue) => done?,
        aged = age(units) => aged?,
    }
    stands(units, id, Phase::Issuing, 2)?;
    segment.machinectl(&with(&[])).await?;
    stands(units, id, Phase::Settled, 1)
}

/// Nobody calls kubelets here: what API servers wait five minutes for is made five minutes old.
async fn age(units: &[Unit]) -> Result<()> {
    let mut look = tokio::time::interval(Duration::from_millis(200));
    loop {
        look.tick().await;
        for unit in units.iter().filter(|unit| unit.is_control_plane()) {
            let path = unit.node.root.pki().join(format!("{}.crt", CertificateId::ApiServerKubeletClient));
            let file = std::fs::File::open(&path).with_context(|| format!("{}", path.display()))?;
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600))?;
        }
    }
}

fn status(unit: &Unit, id: AuthorityId) -> Option<AuthorityStatus> {
    unit.node.store.get::<AuthorityStatus>(id.name())
}

fn phase(unit: &Unit, id: AuthorityId) -> Option<Phase> {
    status(unit, id).map(|status| status.phase)
}

fn stands(units: &[Unit], id: AuthorityId, phase: Phase, count: usize) -> Result<()> {
    for unit in units {
        let status = status(unit, id).with_context(|| format!("{} tells nothing of {id}", unit.name))?;
        let good = status.phase == phase && status.fingerprints.len() == count && status.waits_for.is_empty();
        ensure!(good && status.key == unit.is_control_plane(), "{}: {status:?}", unit.name);
    }
    Ok(())
}

fn secrets(segment: &Segment) -> Result<Secrets> {
    Ok(Secrets::from_yaml(&std::fs::read_to_string(segment.home().join("secrets.yaml"))?)?)
}

/// The secrets, all configs and all certificates are of the new authority, and of no other.
fn is_rotated(segment: &Segment, units: &[Unit], id: AuthorityId, before: &Secrets) -> Result<()> {
    let secrets = secrets(segment)?;
    let (old, new) = (id.of(&before.certificate_authorities), id.of(&secrets.certificate_authorities));
    ensure!(pki::fingerprint(&old.certificate)? != pki::fingerprint(&new.certificate)?, "the secrets have the old one");
    let now = std::time::SystemTime::now();
    for unit in units {
        let machine = unit.machine().with_context(|| unit.name.clone())?;
        let own = id.of(&machine.config.cluster.certificate_authorities);
        ensure!(own.certificate.trim() == new.certificate.trim(), "{}: {}", unit.name, own.certificate);
        ensure!(own.key.is_none() || own.key == new.key, "{} has another key", unit.name);
        for spec in pki::certificates(&machine.config, &machine.facts).into_iter().filter(|spec| spec.authority == id) {
            let pem = std::fs::read_to_string(&spec.certificate_path).with_context(|| format!("{}: {}", unit.name, spec.id))?;
            pki::verify_chain(&pem, &new.certificate, now).with_context(|| format!("{}: {}", unit.name, spec.id))?;
        }
    }
    Ok(())
}

/// How long one thing may take at most.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
