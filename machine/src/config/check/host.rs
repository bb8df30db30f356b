//! The machine's own name, disk, kernel and watchdog.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Check;
use crate::config::names;
use crate::config::report::Path;
use crate::config::structure::quoted;
use crate::config::{DiskSelector, Install, Kernel, Machine, Upgrade};

const WATCHDOG_LEAST: Duration = Duration::from_secs(10);
/// The least of what the kernel's drivers can count to is about this.
const WATCHDOG_MOST: Duration = Duration::from_secs(15 * 60);

/// Settings that Corten needs, or that would let a program be run by the kernel, and why they are refused.
const SYSCTLS: [(&str, &str); 8] = [
    ("net.ipv4.ip_forward", "pods are reached through the machine only when it forwards packets"),
    ("net.ipv6.conf.all.forwarding", "pods are reached through the machine only when it forwards packets"),
    ("kernel.core_pattern", "it names a program that the kernel runs as root"),
    ("kernel.modprobe", "it names a program that the kernel runs as root"),
    ("kernel.hotplug", "it names a program that the kernel runs as root"),
    ("kernel.poweroff_cmd", "it names a program that the kernel runs as root"),
    ("kernel.modules_disabled", "networking and storage load modules when they need them"),
    ("kernel.hostname", "set machine.hostname"),
];

pub fn check(machine: &Machine, check: &mut Check<'_>) {
    if let Some(hostname) = &machine.hostname
        // The kernel's own limit (__NEW_UTS_LEN) is lower than that of a DNS name.
        && (!names::is_dns_subdomain(hostname) || hostname.len() > 63)
    {
        let expected = "a DNS name of at most 63 lower-case letters, digits, dashes and dots";
        let lower = hostname.to_lowercase();
        let remedy = if names::is_dns_subdomain(&lower) && lower.len() <= 63 { format!("write {lower}") } else { String::new() };
        check.add(&Path::of("machine.hostname"), quoted(hostname), expected, remedy);
    }
    if let Some(install) = &machine.install {
        disk(install, check);
    }
    kernel(&machine.kernel, check);
    trusted_keys(&machine.upgrade, check);
    let timeout = machine.watchdog.timeout;
    if !(WATCHDOG_LEAST..=WATCHDOG_MOST).contains(&timeout.0) {
        let expected = "10s to 15m";
        check.add(&Path::of("machine.watchdog.timeout"), timeout.to_string(), expected, "less would reset a machine that is merely busy");
    }
}

fn disk(install: &Install, check: &mut Check<'_>) {
    let path = Path::of("machine.install.disk");
    let DiskSelector { path: device, serial, wwn, .. } = &install.disk;
    if install.disk == DiskSelector::default() {
        check.add(&path, "no field", "at least one of path, serial, wwn, minSize, type", "");
    }
    if let Some(device) = device
        && (!device.starts_with("/dev/") || device.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")))
    {
        check.add(&path.key("path"), quoted(device), "a device node, such as /dev/nvme0n1", "");
    }
    for (name, text) in [("serial", serial), ("wwn", wwn)] {
        if text.as_ref().is_some_and(String::is_empty) {
            check.add(&path.key(name), "empty text", "what the disk reports", "remove the field to match any disk");
        }
    }
}

/// What 32 bytes say is a key or none: whether it is the right one shows when an update comes.
fn trusted_keys(upgrade: &Upgrade, check: &mut Check<'_>) {
    let path = Path::of("machine.upgrade.trustedKeys");
    for (index, key) in upgrade.trusted_keys.iter().enumerate() {
        if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 32 {
            let remedy = "take the text of update.pub, which `image-build keys new` wrote";
            check.add(&path.item(index), quoted(key), "a public key of Ed25519: 32 bytes in base64", remedy);
        }
    }
    check.refuse_repeats(&path, upgrade.trusted_keys.iter().map(|key| (key.clone(), key)));
}

fn kernel(kernel: &Kernel, check: &mut Check<'_>) {
    let path = Path::of("machine.kernel.modules");
    for (index, module) in kernel.modules.iter().enumerate() {
        let path = path.item(index);
        if !names::is_module_name(&module.name) {
            check.add(&path.key("name"), quoted(&module.name), "a kernel module's name, such as ip_vs", "");
        }
        for (index, parameter) in module.parameters.iter().enumerate() {
            let legal = parameter.split_once('=').is_some_and(|(name, _)| names::is_module_name(name));
            if !legal || !parameter.bytes().all(|byte| byte.is_ascii_graphic()) {
                check.add(&path.key("parameters").item(index), quoted(parameter), "name=value without white space", "");
            }
        }
    }
    // The kernel takes both spellings for one module.
    let modules = kernel.modules.iter().map(|module| (module.name.clone(), module.name.replace('-', "_")));
    check.refuse_repeats(&path, modules);

    let path = Path::of("machine.kernel.sysctls");
    for (name, value) in &kernel.sysctls {
        let here = path.key(name);
        let dotted = name.replace('/', ".");
        if !names::is_sysctl(name) {
            check.add(&here, quoted(name), "a name below /proc/sys with dots, such as net.core.somaxconn", "");
        } else if let Some((_, because)) = SYSCTLS.iter().find(|(owned, _)| *owned == dotted) {
            super::owned::refuse(&here, because, check);
        }
        if value.trim().is_empty() || value.contains(['\n', '\0']) || value.len() > 4095 {
            check.add(&here, quoted(value), "a value in one line", "");
        }
    }
}
