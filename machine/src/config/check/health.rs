//! When a new image counts as good: times that fit together, and checks that can be asked.

use std::time::Duration;

use super::Check;
use crate::config::address::HostPort;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{Health, HealthCheck, Probe, Url, names};

/// A machine needs more than that to come up at all.
const DEADLINE_LEAST: Duration = Duration::from_secs(60);
const DEADLINE_MOST: Duration = Duration::from_secs(6 * 3600);
const TIMEOUT_MOST: Duration = Duration::from_secs(60);
/// All checks are asked every few seconds.
const CHECKS_MOST: usize = 32;

pub fn check(health: &Health, check: &mut Check<'_>) {
    let path = Path::of("machine.health");
    if !(DEADLINE_LEAST..=DEADLINE_MOST).contains(&health.deadline.0) {
        check.add(&path.key("deadline"), health.deadline.to_string(), "1m to 6h", "");
    } else if health.hold.0 > health.deadline.0 / 2 {
        let expected = format!("at most half of machine.health.deadline, which is {}", health.deadline);
        check.add(&path.key("hold"), health.hold.to_string(), expected, "the checks need time to pass for the first time");
    }
    let path = path.key("checks");
    if health.checks.len() > CHECKS_MOST {
        check.add(&path, format!("{} checks", health.checks.len()), format!("at most {CHECKS_MOST}"), "");
    }
    for (index, each) in health.checks.iter().enumerate() {
        one(&path.item(index), each, check);
    }
    check.refuse_repeats(&path, health.checks.iter().map(|check| (check.title(), check.title())));
}

fn one(path: &Path, one: &HealthCheck, check: &mut Check<'_>) {
    if let Some(name) = &one.name
        && !names::is_dns_label(name)
    {
        check.add(&path.key("name"), quoted(name), "at most 63 lower-case letters, digits and dashes", "");
    }
    if one.timeout.0.is_zero() || one.timeout.0 > TIMEOUT_MOST {
        check.add(&path.key("timeout"), one.timeout.to_string(), "1ms to 60s", "");
    }
    match one.probe() {
        Some(Probe::Http(http)) => {
            if let Err(problem) = http.url.parse::<Url>() {
                check.add(&path.key("http").key("url"), quoted(&http.url), problem.0, "");
            }
        }
        Some(Probe::Tcp(tcp)) => {
            if let Err(problem) = tcp.address.parse::<HostPort>() {
                check.add(&path.key("tcp").key("address"), quoted(&tcp.address), problem.0, "");
            }
        }
        Some(Probe::Pod(pod)) => {
            if !names::is_dns_label(&pod.namespace) {
                check.add(&path.key("pod").key("namespace"), quoted(&pod.namespace), "the name of a namespace", "");
            }
            if !names::is_dns_subdomain(&pod.name) {
                check.add(&path.key("pod").key("name"), quoted(&pod.name), "the name of a pod, or of what makes it", "");
            }
        }
        None => check.add(path, found(one), "exactly one of http, tcp, pod", "make it a check of its own for each"),
    }
}

/// The kinds that stand there.
fn found(check: &HealthCheck) -> String {
    let kinds = [("http", check.http.is_some()), ("tcp", check.tcp.is_some()), ("pod", check.pod.is_some())];
    let given: Vec<&str> = kinds.into_iter().filter(|(_, given)| *given).map(|(kind, _)| kind).collect();
    if given.is_empty() { "none of them".to_owned() } else { given.join(" and ") }
}
