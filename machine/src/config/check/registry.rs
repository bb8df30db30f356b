//! Where images come from.

use super::{Check, pem};
use crate::config::Registries;
use crate::config::address::{Host, HostPort};
use crate::config::report::Path;
use crate::config::structure::quoted;

pub fn check(registries: &Registries, check: &mut Check<'_>) {
    let path = Path::of("machine.registries");
    for (registry, mirror) in &registries.mirrors {
        let here = path.key("mirrors").key(registry);
        if registry != "*" {
            host(&here, registry, check);
        }
        let endpoints = here.key("endpoints");
        if mirror.endpoints.is_empty() {
            check.add(&endpoints, "an empty list", "at least one URL", "remove the mirror to pull from the registry itself");
        }
        for (index, endpoint) in mirror.endpoints.iter().enumerate() {
            if !is_endpoint(endpoint) {
                check.add(&endpoints.item(index), quoted(endpoint), "a URL, such as https://mirror.example.com:5000", "");
            }
        }
        check.refuse_repeats(&endpoints, mirror.endpoints.iter().map(|endpoint| (endpoint.clone(), endpoint)));
    }
    for (registry, credential) in &registries.credentials {
        let here = path.key("credentials").key(registry);
        host(&here, registry, check);
        if credential.username.is_empty() || credential.username.contains(':') {
            check.add(&here.key("username"), quoted(&credential.username), "a name without colons", "");
        }
        if credential.password.reveal().is_empty() {
            check.add(&here.key("password"), "empty text", "a password or an access token", "");
        }
    }
    for (registry, tls) in &registries.tls {
        let here = path.key("tls").key(registry);
        host(&here, registry, check);
        let good = tls.ca.as_ref().is_some_and(|ca| pem::certificates(&here.key("ca"), ca, check));
        if good && tls.insecure_skip_verify {
            let remedy = "remove one of the two: with it the authority has no effect";
            check.add(&here.key("insecureSkipVerify"), "true beside ca", "", remedy);
        }
    }
}

fn host(path: &Path, text: &str, check: &mut Check<'_>) {
    if !is_host(text) {
        check.add(path, format!("registry {}", quoted(text)), "a host with or without a port, such as docker.io", "");
    }
}

fn is_host(text: &str) -> bool {
    text.parse::<HostPort>().is_ok() || text.parse::<Host>().is_ok_and(|_| !text.contains(':'))
}

/// `http(s)://host[:port][/path]`
fn is_endpoint(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    is_host(authority) && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b'\\'))
}
