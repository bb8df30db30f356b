//! What whole machine configs become: golden/<case>/ holds the config as a patch over the generated one, and every file, flag, certificate
//! and manifest that follows from it. `make golden` (CORTEN_GOLDEN=1) rewrites all but the patch.
//!
//! Keys and certificates are random, so only who they are for is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use controlplane::generate::{self, GeneratedConfigs, Options};
use controlplane::pki::{self, CertificateId, Issued};
use controlplane::secrets::Secrets;
use controlplane::{Credentials, Facts, RenderError, Rendered, apiserver, controller_manager, etcd, manifests, scheduler};
use machine::Root;
use machine::config::{Config, Document, Secret};
use machine::service::ServiceSpec;
use machine::version::Minor;
use serde_json::Value;

#[test]
fn defaults() -> Result<()> {
    check("defaults", |configs| configs.controlplane, &["192.0.2.10"], None, etcd::Membership::bootstrap)
}

/// With an image on trial that came after one with Kubernetes 1.36.
#[test]
fn everything_set() -> Result<()> {
    let old = Minor { major: 1, minor: 36 };
    check("everything-set", |configs| configs.controlplane, &["2001:db8::10", "192.0.2.10"], Some(old), etcd::Membership::bootstrap)
}

/// A further control plane before it has received the authorities' keys, in a cluster that brings its own network.
#[test]
fn joining() -> Result<()> {
    let membership = |facts: &Facts| {
        let members = BTreeMap::from([
            (facts.node_name.clone(), vec![etcd::peer_url(facts)?]),
            ("cp-0".to_owned(), vec!["https://192.0.2.9:2380".to_owned()]),
        ]);
        Ok(etcd::Membership::join(members))
    };
    check("joining", |configs| configs.controlplane_join, &["192.0.2.10"], None, membership)
}

type Membership = fn(&Facts) -> Result<etcd::Membership, RenderError>;
type Pick = fn(GeneratedConfigs) -> Document;

fn check(case: &str, pick: Pick, node_ips: &[&str], emulated: Option<Minor>, membership: Membership) -> Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(case);
    let config = config(&directory, pick)?;
    let node_ips = node_ips.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
    let facts = Facts { root: Root::new("/"), node_name: "cp-1".to_owned(), node_ips, emulated };
    let found = everything(&config, &facts, &membership(&facts)?)?;
    if std::env::var_os("CORTEN_GOLDEN").is_some() {
        found.iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))?;
    }
    let mut kept = Vec::new();
    for entry in fs::read_dir(&directory)? {
        kept.push(entry?.file_name().into_string().expect("names are ASCII"));
    }
    for name in kept.iter().filter(|name| *name != PATCH) {
        ensure!(found.contains_key(name), "golden/{case}/{name} is made by nothing any more: remove it");
    }
    for (name, text) in &found {
        let expected = fs::read_to_string(directory.join(name)).with_context(|| format!("golden/{case}/{name}: run `make golden`"))?;
        assert_eq!(*text, expected, "golden/{case}/{name} differs: if that is meant, run `make golden` and review the difference");
    }
    Ok(())
}

const PATCH: &str = "patch.yaml";

/// One of the generated configs with the case's patch in it.
fn config(directory: &Path, pick: Pick) -> Result<Config> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let secrets = Secrets::generate(now)?;
    let document = pick(generate::generate("demo", "https://203.0.113.10:6443", &secrets, &Options::new(now))?);
    let patch: Value = serde_saphyr::from_str(&fs::read_to_string(directory.join(PATCH))?)?;
    let mut patched = serde_json::to_value(document)?;
    put(&mut patched, patch);
    let Document { cluster, machine, .. } = serde_json::from_value(patched)?;
    Ok(Config { cluster, machine })
}

fn put(value: &mut Value, patch: Value) {
    match (value, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            for (name, patch) in patch {
                put(fields.entry(name).or_insert(Value::Null), patch);
            }
        }
        (_, Value::Null) => {}
        (value, patch) => *value = patch,
    }
}

fn everything(config: &Config, facts: &Facts, membership: &etcd::Membership) -> Result<BTreeMap<String, String>> {
    let mut credentials = Credentials::from_config(config);
    for id in CertificateId::ALL {
        let issued = Issued { certificate_pem: format!("the certificate {id}\n"), key_pem: Secret::new(format!("the key of {id}\n")) };
        credentials.issued.insert(id, issued);
    }
    let mut found = BTreeMap::from([("certificates.txt".to_owned(), certificates(config, facts))]);
    let services = [
        etcd::render(config, facts, &credentials, membership)?,
        apiserver::render(config, facts, &credentials)?,
        controller_manager::render(config, facts, &credentials)?,
        scheduler::render(config, facts, &credentials)?,
    ];
    for rendered in services {
        found.extend(service(rendered)?);
    }
    let objects: Vec<Value> = manifests::manifests(config)?.into_iter().map(|manifest| manifest.object).collect();
    found.insert("manifests.yaml".to_owned(), serde_saphyr::to_string_multiple(&objects)?);
    Ok(found)
}

/// One line a certificate.
fn certificates(config: &Config, facts: &Facts) -> String {
    let mut text = String::new();
    for spec in pki::certificates(config, facts) {
        let request = &spec.request;
        let sans: Vec<String> = request.sans.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "{}: by {}, CN={} O={} {:?} for {} in {}\n    names: {}",
            spec.id,
            spec.authority,
            request.common_name,
            request.organization.as_deref().unwrap_or("-"),
            request.usage,
            spec.account.name(),
            spec.certificate_path.display(),
            if sans.is_empty() { "-".to_owned() } else { sans.join(" ") },
        );
    }
    text
}

/// `<service>.args`, `<service>.service.yaml`, `<service>.files` and its configuration files that hold no secret.
fn service(rendered: Rendered) -> Result<BTreeMap<String, String>> {
    let id = rendered.service.id.to_string();
    let args = rendered.service.args.join("\n") + "\n";
    // The digest covers random keys.
    let spec = ServiceSpec { args: Vec::new(), files_digest: String::new(), ..rendered.service };
    let mut list = String::new();
    let mut found = BTreeMap::new();
    for file in rendered.files {
        let _ = writeln!(list, "{:04o} {} {}", file.mode, file.account.name(), file.path.display());
        let name = file.path.file_name().map(PathBuf::from).context("a file has a name")?;
        let name = name.display().to_string();
        if name.ends_with(".yaml") && name != "encryption.yaml" {
            found.insert(format!("{id}.{name}"), String::from_utf8(file.contents)?);
        }
    }
    found.insert(format!("{id}.args"), args);
    found.insert(format!("{id}.files"), list);
    found.insert(format!("{id}.service.yaml"), serde_saphyr::to_string(&spec)?);
    Ok(found)
}
