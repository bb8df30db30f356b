//! Files under /etc that the machine has besides Corten's own.

use std::path::Path as FilePath;

use super::Check;
use super::owned;
use crate::Root;
use crate::config::File;
use crate::config::report::Path;
use crate::config::structure::quoted;

/// Files of the image in /etc that decide who is who and what is linked.
const IMAGE: [&str; 8] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/ld.so.preload",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
];

pub fn check(files: &[File], check: &mut Check<'_>) {
    let path = Path::of("machine.files");
    for (index, file) in files.iter().enumerate() {
        let here = path.item(index);
        let parts: Vec<&str> = file.path.split('/').collect();
        let normal = matches!(parts.as_slice(), ["", "etc", rest @ ..] if !rest.is_empty() && rest.iter().all(|part| !matches!(*part, "" | "." | "..")));
        if !normal || file.path.contains(['\0', '\n']) || file.path.len() > 4095 {
            check.add(&here.key("path"), quoted(&file.path), "an absolute path of a file under /etc, without . and ..", "");
        } else if is_own(&file.path) {
            owned::refuse(&here.key("path"), "Corten writes it itself", check);
        }
        let mode = &file.mode;
        if !matches!(mode.len(), 3 | 4)
            || !mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
            || (mode.len() == 4 && !mode.starts_with('0'))
        {
            let remedy = "setuid, setgid and sticky bits are not allowed";
            check.add(&here.key("mode"), quoted(mode), "permissions in octal, such as \"0644\"", remedy);
        }
    }
    check.refuse_repeats(&path, files.iter().map(|file| (file.path.clone(), file.path.trim_end_matches('/'))));
    for (index, file) in files.iter().enumerate() {
        let above = |other: &&File| FilePath::new(&file.path).starts_with(&other.path) && file.path != other.path;
        if let Some(other) = files.iter().find(above) {
            check.add(&path.item(index).key("path"), quoted(&file.path), "", format!("{:?} is a file, not a directory", other.path));
        }
    }
}

/// Whether the path is one of Corten's own, or lies below or above one.
fn is_own(path: &str) -> bool {
    let root = Root::new("/");
    let files = [root.hostname(), root.hosts(), root.resolv_conf(), root.etc_machine_id(), root.ca_certificates(), root.cni_config()];
    let directories = [root.kubernetes(), root.registry_hosts(), "/etc/containerd".into()];
    let path = FilePath::new(path);
    let image = IMAGE.iter().map(FilePath::new);
    files.iter().map(|file| file.as_path()).chain(image).any(|own| own.starts_with(path) || path.starts_with(own))
        || directories.iter().any(|own| own.starts_with(path) || path.starts_with(own))
}
