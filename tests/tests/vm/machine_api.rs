//! Who may call the machine API of a running node, and what a broken config does to it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use controlplane::client_config::{ClientConfig, Context};
use controlplane::secrets::Secrets;
use serde_json::Value;
use tempfile::NamedTempFile;
use tests::cluster::Cluster;
use tests::until::until;

use crate::checks::Check;

const PATIENCE: Duration = Duration::from_secs(180);

pub const CHECKS: &[Check] = &[
    ("no client certificate: refused", no_certificate),
    ("a certificate of another authority: refused", foreign_authority),
    ("a certificate that has expired: refused", expired_certificate),
    ("a reader reads, and is refused what is for admins; nothing changes", reader),
    ("a broken config is refused with field, value and expectation, and the running one stays", broken_configs),
    ("dmesg, events and services answer", read_outs),
    ("the audit log has the first config and what was refused, and is whole", audit_log),
];

/// Runs machinectl, which must fail; what it printed on standard error.
fn refused(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<String> {
    refused_as(cluster, &cluster.client_config(), arguments)
}

fn refused_as(cluster: &Cluster, client: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    match cluster.machinectl_as(client, arguments) {
        Ok(output) => anyhow::bail!("machinectl {arguments:?} was not refused: {output}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

fn generations(cluster: &Cluster) -> anyhow::Result<Value> {
    let text = cluster.machinectl(&["config", "list", "-o", "json"])?;
    serde_json::from_str(&text).with_context(|| format!("machinectl printed {text:?}"))
}

fn no_certificate(cluster: &Cluster) -> anyhow::Result<()> {
    // A client that takes any server and shows nothing. A control plane lets strangers in to ask for certificates, and for nothing else.
    let machine = context(&std::fs::read_to_string(cluster.client_config())?)?.endpoints.join(",");
    let error = refused(cluster, &["version", "--insecure", "--nodes", &machine, "--timeout", "20s"])?;
    ensure!(error.contains("needs a client certificate"), "{error}");
    Ok(())
}

fn foreign_authority(cluster: &Cluster) -> anyhow::Result<()> {
    // The right server, trusted by the right authority, and a client certificate that another one issued.
    let foreign = client(cluster, &Secrets::generate(SystemTime::now())?, "stranger", "1h")?;
    let mut mixed = context(&std::fs::read_to_string(cluster.client_config())?)?;
    (mixed.certificate, mixed.key) = (foreign.certificate, foreign.key);
    let file = written(mixed)?;
    let error = refused_as(cluster, file.path(), &["version", "--timeout", "20s"])?;
    ensure!(error.contains("certificate"), "{error}");
    let log = cluster.machinectl(&["logs", "nodeagent"])?;
    ensure!(log.contains("stranger"), "the agent's log does not name who was refused");
    Ok(())
}

/// Valid for a second, from thirty days back: the machine's clock may be a little behind this one's, so it is asked until it refuses.
fn expired_certificate(cluster: &Cluster) -> anyhow::Result<()> {
    let file = written(client(cluster, &secrets(cluster)?, "leaver", "1s")?)?;
    let ask = || refused_as(cluster, file.path(), &["version", "--timeout", "20s"]);
    until("a refusal", PATIENCE, ask)?;
    // The second it expires in, the handshake still succeeds and the gate refuses; from the next on there is no handshake any more.
    let error = ask()?;
    ensure!(["CertificateExpired", "the client certificate has expired"].iter().any(|reason| error.contains(reason)), "{error}");
    let log = cluster.machinectl(&["logs", "nodeagent"])?;
    ensure!(log.lines().any(|line| line.contains("leaver") && line.contains("xpired")), "the log does not name whose certificate it was");
    Ok(())
}

fn secrets(cluster: &Cluster) -> anyhow::Result<Secrets> {
    Secrets::from_yaml(&std::fs::read_to_string(cluster.directory().join("secrets.yaml"))?).context("the cluster's secrets")
}

fn reader(cluster: &Cluster) -> anyhow::Result<()> {
    let secrets = secrets(cluster)?;
    let file = written(client(cluster, &secrets, "watcher", "1h")?)?;
    let config = file.path();
    let before = generations(cluster)?;
    cluster.machinectl_as(config, &["get", "services"])?;
    let shown = cluster.machinectl_as(config, &["config", "show"])?;
    ensure!(shown.contains("********") && !shown.contains("PRIVATE KEY"), "a reader sees secrets");
    for arguments in [&["kubeconfig", "-o", "-"][..], &["reset", "--yes"]] {
        let error = refused_as(cluster, config, arguments)?;
        ensure!(error.contains("admin"), "{error}");
    }
    ensure!(generations(cluster)? == before);
    // The refusal is in the agent's log, with who it was.
    let log = cluster.machinectl(&["logs", "nodeagent"])?;
    ensure!(log.lines().any(|line| line.contains("watcher") && line.contains("Reset")), "the log does not name the reader");
    Ok(())
}

/// A reader's context for the cluster's machine, issued from these secrets.
fn client(cluster: &Cluster, secrets: &Secrets, name: &str, valid_for: &str) -> anyhow::Result<Context> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("secrets.yaml");
    std::fs::write(&path, secrets.to_yaml()?)?;
    let endpoint = context(&std::fs::read_to_string(cluster.client_config())?)?.endpoints.join(",");
    let path = path.to_str().context("path of the secrets")?;
    let who = ["gen", "client", "--role", "reader", "--name", name, "--valid-for", valid_for];
    context(&cluster.machinectl(&[&who[..], &["--with-secrets", path, "--control-planes", &endpoint]].concat())?)
}

/// The current context of a client config.
fn context(text: &str) -> anyhow::Result<Context> {
    Ok(ClientConfig::from_yaml(text)?.context(None)?.clone())
}

fn written(context: Context) -> anyhow::Result<NamedTempFile> {
    let mut config = ClientConfig::default();
    config.add("test", context);
    config.current = Some("test".to_owned());
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_yaml()?)?;
    Ok(file)
}

/// Changes to a good config that make it a broken one, and what the refusal must name: field, value, expectation.
const BROKEN: &[(&str, &[&str])] = &[
    ("{ machine: { kublet: {} } }", &["machine.kublet", "unknown field", "kubelet"]),
    ("{ machine: { kernel: { sysctls: 7 } } }", &["machine.kernel.sysctls", "number 7", "expected a map"]),
    ("{ cluster: { network: { podCIDRs: [10.96.0.0/12] } } }", &["cluster.network", "10.96.0.0/12", "expected networks apart"]),
    (
        "{ cluster: { certificateAuthorities: { kubernetes: null } } }",
        &["cluster.certificateAuthorities.kubernetes", "missing", "expected"],
    ),
];

fn broken_configs(cluster: &Cluster) -> anyhow::Result<()> {
    let before = generations(cluster)?;
    for (patch, expected) in BROKEN {
        let error = refused(cluster, &["patch", patch])?;
        for part in *expected {
            ensure!(error.contains(part), "{patch}: no {part:?} in {error}");
        }
        ensure!(generations(cluster)? == before, "{patch}: the config in force changed");
    }
    Ok(())
}

fn read_outs(cluster: &Cluster) -> anyhow::Result<()> {
    ensure!(cluster.machinectl(&["dmesg", "--tail", "2000"])?.contains("corten"), "dmesg does not show init's lines");
    ensure!(!cluster.machinectl(&["events"])?.is_empty(), "no events");
    ensure!(cluster.machinectl(&["services"])?.contains("kube-apiserver"), "services");
    ensure!(cluster.machinectl(&["get", "volumes"])?.to_lowercase().contains("ephemeral"), "volumes");
    Ok(())
}

fn audit_log(cluster: &Cluster) -> anyhow::Result<()> {
    let text = cluster.machinectl(&["audit", "list", "-o", "json"])?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let has = |event: &str, method: &str, subject: &str| {
        let of = |record: &&Value, field: &str, wanted: &str| record[field].as_str().is_some_and(|text| text.ends_with(wanted));
        records.iter().any(|record| of(&record, "event", event) && of(&record, "method", method) && of(&record, "subject", subject))
    };
    ensure!(has("begun", "Cluster/Bootstrap", "os:admin/admin") && has("ended", "Cluster/Bootstrap", "os:admin/admin"), "{text}");
    ensure!(has("denied", "", "") && has("ended", "Config/Apply", ""), "{text}");
    let checked = cluster.json(&["audit", "verify"])?;
    let (last, head) = (&checked[0]["last"], checked[0]["head"].as_str().context("no head")?);
    ensure!(last.as_u64() >= Some(records.len() as u64) && checked[0]["first"] == 1, "{checked}");
    cluster.machinectl(&["audit", "verify", "--head", head])?;
    let error = refused(cluster, &["audit", "verify", "--head", &format!("1:{}", "0".repeat(64))])?;
    ensure!(error.contains("not those that were there"), "{error}");
    Ok(())
}
