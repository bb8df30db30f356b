//! The configuration with the real plugins, as `make components` builds them, between two network namespaces. Needs root, as the plugins do.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::*;
use crate::components::component;
use crate::controllers::namespace::Namespace;

fn plugins() -> PathBuf {
    component("cni/bin")
}

/// As containerd calls a plugin: what it answers, or what it complains of.
fn call(command: &str, plugin: &Value, before: Option<&Value>, host: &Namespace, pod: &Namespace) -> Result<Value, String> {
    let mut config = plugin.clone();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!("corten");
    if let Some(before) = before {
        config["prevResult"] = before.clone();
    }
    if config.as_object_mut().unwrap().remove("capabilities").is_some() {
        config["runtimeConfig"] = json!({ "portMappings": [{ "hostPort": 18080, "containerPort": 80, "protocol": "tcp" }] });
    }
    let environment = [("CNI_COMMAND", command), ("CNI_CONTAINERID", "pod"), ("CNI_IFNAME", "eth0")];
    let mut child = host
        .command(plugins().join(config["type"].as_str().unwrap()))
        .envs(environment)
        .env("CNI_NETNS", pod.path())
        .env("CNI_PATH", plugins())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(serde_json::from_str(&said).unwrap_or(Value::Null)) } else { Err(said) }
}

#[test]
fn pods_get_addresses_routes_and_host_ports() {
    let directory = tempfile::tempdir().unwrap();
    let cidrs = ["10.244.1.0/24", "fd00:1::/64"].map(|cidr| cidr.parse().unwrap());
    let contents = render::conflist(&Root::new(directory.path()), &cidrs, 1430);
    let list: Value = serde_json::from_slice(&contents).unwrap();
    let chain: Vec<&Value> = list["plugins"].as_array().unwrap().iter().collect();
    let (host, pod) = (Namespace::new(), Namespace::new());

    let mut result = None;
    for plugin in &chain {
        result = Some(call("ADD", plugin, result.as_ref(), &host, &pod).unwrap());
    }
    assert_eq!(pod.text(&["ip", "-4", "route", "show", "default"]).trim(), "default via 10.244.1.1 dev eth0");
    assert!(pod.text(&["ip", "-6", "route", "show", "default"]).contains("via fd00:1::1 dev eth0"));
    assert!(pod.text(&["ip", "link", "show", "dev", "eth0"]).contains("mtu 1430"));
    assert!(host.text(&["ip", "-4", "address", "show", "dev", "cni0"]).contains("10.244.1.1/24"));
    let rules = host.text(&["nft", "list", "ruleset"]);
    assert!(rules.contains("dport 18080 dnat"), "{rules}");

    for plugin in chain.iter().rev() {
        call("DEL", plugin, result.as_ref(), &host, &pod).unwrap();
    }
    assert_eq!(pod.text(&["ip", "route"]), "");
}
