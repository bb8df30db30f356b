//! Flags and pass-through configs of the Kubernetes components and etcd.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Check;
use super::owned::{self, Owned};
use crate::config::Config;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::upstream;
use crate::config::yaml::Node;

/// As much as the scheduler takes (pkg/scheduler/framework, MaxTotalScore leaves room for more).
const PRESSURE_WEIGHT_MAX: u32 = 100;

pub fn check(config: &Config, check: &mut Check<'_>) {
    let cluster = &config.cluster;
    let flags_of = [
        ("cluster.apiServer.extraArgs", &cluster.api_server.extra_args, owned::API_SERVER),
        ("cluster.controllerManager.extraArgs", &cluster.controller_manager.extra_args, owned::CONTROLLER_MANAGER),
        ("cluster.scheduler.extraArgs", &cluster.scheduler.extra_args, owned::SCHEDULER),
        ("cluster.etcd.extraArgs", &cluster.etcd.extra_args, owned::ETCD_FLAGS),
        ("cluster.network.proxy.extraArgs", &cluster.network.proxy.extra_args, owned::PROXY),
        ("machine.kubelet.extraArgs", &config.machine.kubelet.extra_args, owned::KUBELET),
    ];
    for (path, flags, table) in flags_of {
        each_flag(&Path::of(path), flags, table, check);
    }
    admission(&cluster.api_server.extra_args, check);
    let configs = [
        ("cluster.scheduler.config", &cluster.scheduler.config, owned::SCHEDULER_CONFIG),
        ("cluster.network.proxy.config", &cluster.network.proxy.config, owned::PROXY_CONFIG),
        ("machine.kubelet.config", &config.machine.kubelet.config, owned::KUBELET_CONFIG),
    ];
    for (path, fields, table) in configs {
        owned::refuse_fields(&Path::of(path), fields, table, check);
    }
    if check.source.is_none() {
        // A source had its fields checked when it was read.
        check.problems.extend(upstream::check(&Node::from(&config.value())));
    }
    audit_policy(&cluster.api_server.audit_policy, check);
    let weight = cluster.scheduler.pressure.weight;
    if weight > PRESSURE_WEIGHT_MAX {
        let expected = format!("a number from 0 to {PRESSURE_WEIGHT_MAX}");
        check.add(&Path::of("cluster.scheduler.pressure.weight"), weight.to_string(), expected, "0 switches it off");
    }
}

fn each_flag(path: &Path, flags: &BTreeMap<String, String>, table: &[Owned], check: &mut Check<'_>) {
    for (flag, value) in flags {
        let here = path.key(flag);
        let legal = flag.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !legal || flag.is_empty() || flag.starts_with('-') || flag.ends_with('-') {
            let remedy = format!("write {:?}", flag.trim_matches('-'));
            let remedy = if flag.starts_with('-') { remedy } else { String::new() };
            check.add(&here, format!("flag {}", quoted(flag)), "a flag's name without dashes before it, such as v", remedy);
        } else if let Some(because) = owned::reason(table, flag) {
            owned::refuse(&here, because, check);
        }
        if value.contains(['\n', '\0']) {
            check.add(&here, "a value of several lines", "one line", "");
        }
    }
}

/// Without NodeRestriction any kubelet could rewrite any other Node.
fn admission(flags: &BTreeMap<String, String>, check: &mut Check<'_>) {
    let flag = "disable-admission-plugins";
    if flags.get(flag).is_some_and(|list| list.split(',').any(|name| name.trim() == "NodeRestriction")) {
        let path = Path::of("cluster.apiServer.extraArgs").key(flag);
        check.add(&path, "NodeRestriction", "", "leave it on: without it one node's kubelet could change every other node");
    }
}

fn audit_policy(policy: &Map<String, Value>, check: &mut Check<'_>) {
    if policy.is_empty() {
        return;
    }
    let path = Path::of("cluster.apiServer.auditPolicy");
    for (field, only) in [("apiVersion", "audit.k8s.io/v1"), ("kind", "Policy")] {
        if let Some(Value::String(text)) = policy.get(field)
            && text != only
        {
            check.add(&path.key(field), quoted(text), only, "");
        }
    }
    if !policy.contains_key("rules") {
        check.add(&path.key("rules"), "missing field", "a list of rules, the first that matches counts", "");
    }
}
