//! From one config to another on a running machine: what waits for the next boot, and what can never change.

use serde_json::Value;

use super::check::pem;
use super::document::Config;
use super::report::{Path, Problem, Report, UNNAMED};
use super::value::Secret;

/// Fields that act at the next boot only.
const AT_BOOT: [&str; 3] = [
    // The rules of the mode before stay in the kernel.
    "cluster.network.proxy.mode",
    "cluster.network.cni",
    "cluster.network.overlay.backend",
];

/// Fields that name what a machine or its cluster is, and why they stay.
const FOR_EVER: [(&str, &str); 7] = [
    ("machine.role", "a machine keeps its role: reset it, then apply the config of the other role"),
    ("machine.hostname", "the Node is named by it: reset the machine to give it another name"),
    ("cluster.name", "it stands in certificates and kubeconfigs of the whole cluster"),
    ("cluster.network.podCIDRs", "running nodes and pods have addresses from it"),
    ("cluster.network.nodeCIDRMaskSizes", "running nodes have networks of this size"),
    ("cluster.network.serviceCIDRs", "running Services have addresses from it"),
    ("cluster.network.dnsDomain", "certificates, tokens and running pods have it"),
];

/// The fields whose change waits for the next boot; none: everything acts at once.
pub fn needs_reboot(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (old.value(), new.value());
    let mut fields: Vec<String> = AT_BOOT.into_iter().filter(|field| at(&before, field) != at(&after, field)).map(str::to_owned).collect();
    // A module that is loaded keeps its parameters, and whatever uses it.
    let modules = &new.machine.kernel.modules;
    let stays = |old| modules.contains(old);
    if !old.machine.kernel.modules.iter().all(stays) {
        fields.push("machine.kernel.modules".to_owned());
    }
    // Nobody knows what a setting was before it was set.
    if old.machine.kernel.sysctls.keys().any(|name| !new.machine.kernel.sysctls.contains_key(name)) {
        fields.push("machine.kernel.sysctls".to_owned());
    }
    fields
}

/// Refuses a change of what a machine keeps for life. `new` passed every check by itself.
pub fn refuse_change(old: &Config, new: &Config) -> Result<(), Report> {
    let (before, after) = (old.value(), new.value());
    let mut problems = Vec::new();
    for (field, because) in FOR_EVER {
        let (was, is) = (at(&before, field), at(&after, field));
        if was != is {
            let problem = Problem::new(&Path::of(field), shown(is));
            problems.push(problem.expected(format!("{}, as it is", shown(was))).remedy(because));
        }
    }
    problems.extend(authorities(old, new));
    for (field, before, after, because) in [
        (
            "serviceAccountKey",
            &old.cluster.service_account_key,
            &new.cluster.service_account_key,
            "every token in the cluster is signed with it",
        ),
        ("encryptionKey", &old.cluster.encryption_key, &new.cluster.encryption_key, "what is in etcd could not be read any more"),
    ] {
        if trimmed(before) != trimmed(after) {
            let problem = Problem::new(&Path::of("cluster").key(field), "another key");
            problems.push(problem.remedy(format!("keep the key: {because}")));
        }
    }
    Report::of(UNNAMED, problems)
}

/// An authority changes in steps, so that at each of them all machines trust each other: a new one is added behind the old, then it comes
/// first, which is the one that issues, and then the old goes. Keys may go, once the machine keeps them, or follow the first certificate.
fn authorities(old: &Config, new: &Config) -> Vec<Problem> {
    let pairs = old.cluster.certificate_authorities.named().into_iter().zip(new.cluster.certificate_authorities.named());
    let mut problems = Vec::new();
    for ((name, before), (_, after)) in pairs {
        let path = Path::of("cluster.certificateAuthorities").key(name);
        let (was, is) = (certificates(&before.certificate), certificates(&after.certificate));
        if let Some((found, remedy)) = leap(&was, &is) {
            problems.push(Problem::new(&path.key("certificate"), found).remedy(remedy));
        }
        let other = before.key.is_some() && after.key.is_some() && trimmed(&before.key) != trimmed(&after.key);
        if other && was.first() == is.first() {
            problems.push(Problem::new(&path.key("key"), "another key").remedy("keep the key: it belongs to the certificate"));
        }
    }
    problems
}

/// What a change of an authority's certificates would leave out.
fn leap(was: &[Vec<u8>], is: &[Vec<u8>]) -> Option<(&'static str, &'static str)> {
    let issues = is.first().filter(|first| !was.contains(first));
    if was == is {
        None
    } else if issues.is_some() {
        Some(("another certificate", "add it behind the one that is there first, on all machines: machinectl rotate ca"))
    } else if was.first() != is.first() && was.iter().any(|certificate| !is.contains(certificate)) {
        let remedy = "keep it behind the new one until all machines have certificates of the new one: machinectl rotate ca";
        Some(("the certificate that was the first is gone", remedy))
    } else {
        None
    }
}

/// In DER; how they are written does not matter.
fn certificates(text: &str) -> Vec<Vec<u8>> {
    pem::blocks(text).into_iter().flatten().map(|block| block.der).collect()
}

fn at<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(value, |value, name| value.get(name))
}

fn trimmed(key: &Option<Secret>) -> Option<&str> {
    key.as_ref().map(|key| key.reveal().trim())
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "no value".to_owned(), Value::to_string)
}
