//! What a step changes of a machine's config.

use controlplane::pki::{self, AuthorityId};
use machine::config::yaml;
use serde_json::{Map, Value, json};

use super::safe::Safe;
use super::succession::Step;

/// Which keys a control plane's config is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Those that it has, each that of the certificate that issues.
    AsTheyAre,
    /// Those of all authorities.
    All,
}

/// The config after a step, as text; what is wrong with it otherwise.
pub fn after(step: Step, document: &Value, keys: Keys, safe: &Safe) -> Result<String, String> {
    let mut document = document.clone();
    let id = safe.authority();
    let had: Vec<String> = certificates(&document, id).map(str::to_owned).collect();
    let new = safe.new_certificate();
    let others = had.iter().map(|pem| pem.trim()).filter(|pem| !same(pem, new));
    let chain: Vec<&str> = match step {
        Step::Accept => others.chain([new]).collect(),
        Step::Issue => [new].into_iter().chain(others).collect(),
        Step::Drop => vec![new],
    };
    let chain: String = chain.iter().map(|pem| format!("{}\n", pem.trim())).collect();
    field(&mut document, id)?.insert("certificate".to_owned(), json!(chain));
    if keys == Keys::All {
        for id in AuthorityId::ALL {
            let (certificate, key) = safe.pair(id).ok_or_else(|| format!("the secrets file has no key of authority {id}"))?;
            let first = certificates(&document, id).next().unwrap_or_default().to_owned();
            if !same(&first, pki::issuing(certificate)) {
                return Err(format!("authority {id} is another one in the secrets file; use the cluster's secrets in their last version"));
            }
            field(&mut document, id)?.insert("key".to_owned(), json!(key));
        }
    } else if step >= Step::Issue
        && let Some(key) = field(&mut document, id)?.get_mut("key")
    {
        *key = json!(safe.new_key());
    }
    Ok(yaml::print(&document))
}

/// An authority's certificates, the one that issues first.
pub fn certificates(document: &Value, id: AuthorityId) -> impl Iterator<Item = &str> {
    pki::each(document["cluster"]["certificateAuthorities"][id.name()]["certificate"].as_str().unwrap_or_default())
}

/// Whether the config brings the authorities' keys.
pub fn has_keys(document: &Value) -> bool {
    AuthorityId::ALL.iter().all(|id| document["cluster"]["certificateAuthorities"][id.name()]["key"].is_string())
}

fn field(document: &mut Value, id: AuthorityId) -> Result<&mut Map<String, Value>, String> {
    let field = document.pointer_mut(&format!("/cluster/certificateAuthorities/{id}")).and_then(Value::as_object_mut);
    field.ok_or_else(|| format!("its config has no cluster.certificateAuthorities.{id}"))
}

/// Whether two texts are the same certificate.
fn same(one: &str, other: &str) -> bool {
    matches!((pki::fingerprint(one), pki::fingerprint(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use controlplane::generate::{Options, generate};
    use controlplane::secrets::Secrets;

    use super::*;

    /// What is made of a first control plane's and a worker's config passes every check, each change is one that a machine takes, and the keys
    /// follow.
    #[test]
    fn each_step_is_one_that_a_machine_takes() {
        let now = SystemTime::now();
        let secrets = Secrets::generate(now).expect("made");
        let configs = generate("demo", "https://192.0.2.10:6443", &secrets, &Options::new(now)).expect("made");
        for (config, keyed) in [(configs.controlplane, true), (configs.controlplane_join, false), (configs.worker, false)] {
            let safe = Safe::for_test(AuthorityId::EtcdPeer, secrets.clone());
            let mut document = serde_json::to_value(&config).expect("JSON");
            let mut config = machine::config::load(yaml::print(&document), "before").expect("good");
            for (step, count) in Step::ALL.into_iter().zip([2, 2, 1]) {
                let text = after(step, &document, Keys::AsTheyAre, &safe).expect("a document");
                let changed = machine::config::load(&text, "after").unwrap_or_else(|report| panic!("{step:?}: {report}"));
                machine::config::refuse_change(&config, &changed).unwrap_or_else(|report| panic!("{step:?}: {report}"));
                let authority = &changed.cluster.certificate_authorities.etcd_peer;
                assert_eq!(pki::each(&authority.certificate).count(), count, "{step:?}");
                assert!(!pki::succeeds(authority) && authority.key.is_some() == keyed, "{step:?}");
                assert_eq!(
                    has_keys(&serde_json::to_value(&changed.cluster).map(|cluster| json!({ "cluster": cluster })).expect("JSON")),
                    keyed
                );
                document = yaml::read_one(&text, "after").expect("YAML").value();
                // Again it changes nothing.
                assert_eq!(after(step, &document, Keys::AsTheyAre, &safe), Ok(text));
                config = changed;
            }
            assert!(same(&config.cluster.certificate_authorities.etcd_peer.certificate, safe.new_certificate()));
        }
    }

    #[test]
    fn a_control_plane_without_keys_is_given_all_that_are_its_clusters() {
        let now = SystemTime::now();
        let secrets = Secrets::generate(now).expect("made");
        let configs = generate("demo", "https://192.0.2.10:6443", &secrets, &Options::new(now)).expect("made");
        let safe = Safe::for_test(AuthorityId::Kubernetes, secrets);
        let document = serde_json::to_value(&configs.controlplane_join).expect("JSON");
        let text = after(Step::Accept, &document, Keys::AsTheyAre, &safe).expect("a document");
        let document = yaml::read_one(&text, "after").expect("YAML").value();
        let text = after(Step::Issue, &document, Keys::All, &safe).expect("a document");
        let config = machine::config::load(&text, "after").unwrap_or_else(|report| panic!("{report}"));
        assert!(AuthorityId::ALL.into_iter().all(|id| {
            let authority = id.of(&config.cluster.certificate_authorities);
            authority.key.is_some() && !pki::succeeds(authority)
        }));
        let foreign = Safe::for_test(AuthorityId::Kubernetes, Secrets::generate(now).expect("made"));
        let error = after(Step::Issue, &document, Keys::All, &foreign).expect_err("another cluster's");
        assert!(error.contains("is another one in the secrets file"), "{error}");
    }
}
