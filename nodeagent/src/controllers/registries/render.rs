//! hosts.toml, as containerd's docs/hosts.md describes it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use machine::Root;
use machine::account::Account;
use machine::config::{Mirror, Registries};
use machine::file::File;
use serde::{Serialize, Serializer};

/// The directory that containerd reads for registries without one of their own.
const ALL: &str = "_default";

/// One hosts.toml. `server` comes last at a pull, `host` in the file's order before it.
#[derive(Debug, Serialize)]
struct Hosts {
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    #[serde(serialize_with = "in_order")]
    host: Vec<(String, Host)>,
}

#[derive(Debug, Serialize)]
struct Host {
    capabilities: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skip_verify: bool,
    /// The URL's path stands for all of /v2.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    override_path: bool,
}

fn in_order<S: Serializer>(hosts: &[(String, Host)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(hosts.iter().map(|(url, host)| (url, host)))
}

pub fn files(root: &Root, registries: &Registries) -> Result<Vec<File>, toml::ser::Error> {
    let mut files: Vec<File> = Vec::new();
    for (host, tls) in &registries.tls {
        if let Some(ca) = &tls.ca {
            files.push(file(authority(root, host), ca));
        }
    }
    let hosts: BTreeSet<&String> = registries.mirrors.keys().chain(registries.tls.keys()).collect();
    for host in hosts {
        let hosts = match registries.mirrors.get(host) {
            Some(mirror) => mirrored(root, registries, host, mirror),
            None => Hosts { server: None, host: entries(root, registries, &[server(host)], &["pull", "resolve", "push"]) },
        };
        files.push(file(directory(root, host).join("hosts.toml"), &toml::to_string(&hosts)?));
    }
    Ok(files)
}

/// Naming a mirror as the server leaves the registry itself out.
fn mirrored(root: &Root, registries: &Registries, host: &str, mirror: &Mirror) -> Hosts {
    let itself = (host != "*").then(|| server(host));
    let last = if mirror.skip_fallback { mirror.endpoints.last().cloned() } else { itself };
    Hosts { server: last, host: entries(root, registries, &mirror.endpoints, &["pull", "resolve"]) }
}

fn entries(root: &Root, registries: &Registries, urls: &[String], capabilities: &'static [&'static str]) -> Vec<(String, Host)> {
    let entry = |url: &String| {
        let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).trim_end_matches('/');
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let tls = registries.tls.get(host);
        let entry = Host {
            capabilities,
            ca: tls.and_then(|tls| tls.ca.as_ref()).map(|_| authority(root, host)),
            skip_verify: tls.is_some_and(|tls| tls.insecure_skip_verify),
            override_path: !path.is_empty(),
        };
        (url.clone(), entry)
    };
    urls.iter().map(entry).collect()
}

/// Where a registry's own API is.
fn server(host: &str) -> String {
    match host {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        host => format!("https://{host}"),
    }
}

fn directory(root: &Root, host: &str) -> PathBuf {
    root.registry_hosts().join(if host == "*" { ALL } else { host })
}

fn authority(root: &Root, host: &str) -> PathBuf {
    directory(root, host).join("ca.crt")
}

fn file(path: PathBuf, contents: &str) -> File {
    File { path, mode: 0o644, account: Account::Root, contents: contents.as_bytes().to_vec() }
}

#[cfg(test)]
mod tests;
