//! Kernel settings of every machine. The agent sets what the machine config adds.

use std::fs;
use std::io;

use machine::Root;

/// Where a value comes from stands beside it.
const TABLE: &[(&str, &str)] = &[
    // What the kubelet insists on with protectKernelDefaults (pkg/kubelet/cm/container_manager_linux.go).
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
    // Pods are routed.
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    // A node that forwards still learns its own addresses and routes from routers.
    ("net/ipv6/conf/default/accept_ra", "2"),
    // Loose: replies of pods may leave by another link than requests came in by.
    ("net/ipv4/conf/all/rp_filter", "2"),
    ("net/ipv4/conf/default/rp_filter", "2"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    // Neighbours of large clusters: the defaults overflow at 1024.
    ("net/ipv4/neigh/default/gc_thresh1", "8192"),
    ("net/ipv4/neigh/default/gc_thresh2", "32768"),
    ("net/ipv4/neigh/default/gc_thresh3", "65536"),
    ("net/ipv6/neigh/default/gc_thresh1", "8192"),
    ("net/ipv6/neigh/default/gc_thresh2", "32768"),
    ("net/ipv6/neigh/default/gc_thresh3", "65536"),
    // Every pod takes watches, files and mappings.
    ("fs/inotify/max_user_instances", "8192"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/file-max", "2097152"),
    ("vm/max_map_count", "262144"),
    ("kernel/pid_max", "4194304"),
    // Unprivileged containers learn nothing of the kernel (Kernel Self-Protection Project).
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/yama/ptrace_scope", "1"),
    ("net/core/bpf_jit_harden", "2"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_regular", "2"),
    ("fs/protected_symlinks", "1"),
    ("fs/suid_dumpable", "0"),
    // No core files: nobody would take them away (core(5): an empty pattern without the pid).
    ("kernel/core_uses_pid", "0"),
    ("kernel/core_pattern", "\n"),
];

#[derive(Debug, thiserror::Error)]
#[error("kernel settings that did not take: {}", .0.join(", "))]
pub struct Refused(Vec<String>);

/// Sets all. One that the kernel does not have is left out; one that it refuses is named.
pub fn set_all(root: &Root) -> Result<(), Refused> {
    let mut refused = Vec::new();
    for (name, value) in TABLE {
        match fs::write(root.path("/proc/sys").join(name), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => refused.push(format!("{name}={value} ({error})")),
            _ => {}
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Refused(refused)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_and_refusals_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        let settings = root.path("/proc/sys");
        fs::create_dir_all(settings.join("vm")).expect("make");
        fs::write(settings.join("vm/overcommit_memory"), "0").expect("write");
        set_all(&root).expect("what is missing is left out");
        assert_eq!(fs::read(settings.join("vm/overcommit_memory")).expect("read"), b"1");

        fs::create_dir_all(settings.join("kernel/panic")).expect("make");
        let refused = set_all(&root).expect_err("a directory cannot be written").to_string();
        assert!(refused.contains("kernel/panic=10"), "{refused}");
    }

    #[test]
    fn each_setting_is_there_once() {
        let mut names: Vec<_> = TABLE.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
