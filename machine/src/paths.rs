//! Every path that a Corten machine reads or writes, in one place. Production is `Root::new("/")`, a test is a temporary directory.

use std::path::{Path, PathBuf};

/// The directory under which all of a machine's files lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        impl Root {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.0.join($path) })*
        }
    };
}

impl Root {
    pub fn new(directory: impl Into<PathBuf>) -> Root {
        Root(directory.into())
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Any other path, given as it stands on the machine (`/etc/hosts`).
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }
}

paths! {
    // /run: this boot only
    /// Directory of everything that Corten keeps for this boot only.
    run = "run/corten";
    /// init's socket; the agent alone may connect (checked by peer credentials).
    init_socket = "run/corten/init.sock";
    /// One datagram socket a service for `READY=1` (sd_notify).
    notify_directory = "run/corten/notify";
    /// What stage 1 found, for stage 2: [`crate::protocol::BootFacts`] as JSON.
    boot_facts = "run/corten/boot.json";
    /// Logs of services until EPHEMERAL is open.
    early_log_directory = "run/corten/log";
    /// The cgroup v2 tree.
    cgroups = "sys/fs/cgroup";
    proc = "proc";
    containerd_socket = "run/containerd/containerd.sock";
    /// What the machine was booted from, where that is an installation medium or the network; read-only. Its directory `corten` holds
    /// `root.erofs`, `root.verity` and what else an installation needs.
    medium = "run/corten/medium";

    // /state: survives reboots and upgrades
    state = "state";
    /// Machine config generations: `<number>.yaml`, and `current` naming one.
    config_directory = "state/config";
    /// Machine identity: machine-id, node name, join records.
    identity_directory = "state/identity";
    machine_id = "state/identity/machine-id";
    random_seed = "state/identity/random-seed";
    /// Last known good time, in seconds since the epoch.
    clock = "state/identity/clock";
    /// Certificates and keys, 0700.
    pki = "state/pki";
    kubelet_pki = "state/pki/kubelet";
    /// The authorities' keys that a control plane got when it joined, 0600.
    authority_keys = "state/pki/authority-keys.json";
    /// API servers that were members of the cluster when this machine last heard of them.
    api_server_addresses = "state/identity/api-servers.json";
    /// The audit log: `<number of the first record>.log`.
    audit_log = "state/audit";
    /// How far each sink of the audit log has got.
    audit_sinks = "state/audit/sinks";
    boot_records = "state/boots";
    /// Why the last ordered shutdown was: [`crate::record::LastShutdown`] as JSON.
    last_shutdown = "state/boots/last-shutdown.json";
    /// One record an upgrade or rollback: `<number>.json`.
    upgrade_records = "state/upgrades";
    /// What each slot holds: `<slot>.json` and `<slot>.chunks`.
    slot_records = "state/slots";
    /// That this machine holds etcd's cluster to an older version: written before it does.
    etcd_hold = "state/etcd-hold.json";
    bootstrap_record = "state/bootstrap.json";
    /// What is being done with this machine's member of etcd at somebody's word.
    etcd_repair = "state/etcd-repair.json";

    // /etcd
    etcd_data = "etcd/data";
    /// Copies of etcd's data: `upgrade-<number>.db`.
    etcd_snapshots = "etcd/snapshots";
    /// A database that etcd is to begin anew with, and what it had before.
    etcd_restore = "etcd/restore";

    // /var: wiped by reset
    log_directory = "var/log/corten";
    pod_log_directory = "var/log/pods";
    audit_log_directory = "var/log/kube-apiserver";
    kubelet_directory = "var/lib/kubelet";
    containerd_directory = "var/lib/containerd";
    cni_directory = "var/lib/cni";

    // /etc: a tmpfs, rendered from config at each boot
    etc = "etc";
    hostname = "etc/hostname";
    hosts = "etc/hosts";
    resolv_conf = "etc/resolv.conf";
    etc_machine_id = "etc/machine-id";
    containerd_config = "etc/containerd/config.toml";
    registry_hosts = "etc/containerd/certs.d";
    cni_config = "etc/cni/net.d/10-corten.conflist";
    kubernetes = "etc/kubernetes";
    pods_resolv_conf = "etc/kubernetes/resolv.conf";
    kubelet_config = "etc/kubernetes/kubelet.yaml";
    kubelet_kubeconfig = "etc/kubernetes/kubelet.kubeconfig";
    kube_proxy_config = "etc/kubernetes/kube-proxy.yaml";
    kube_proxy_kubeconfig = "etc/kubernetes/kube-proxy.kubeconfig";
    static_pods = "etc/kubernetes/manifests";
    /// Each control-plane service's files are in `<this>/<service id>/`, owned by its account.
    control_plane = "etc/kubernetes/control-plane";

    // the verity root: read-only
    /// Templates of /etc that stage 2 copies into the tmpfs.
    etc_template = "usr/share/corten/etc";
    /// The image's own record: [`crate::protocol::ImageFacts`] as JSON.
    image_facts = "usr/share/corten/image.json";
    /// Whose updates the image takes: `update::TrustedKeys` as JSON. Absent in an image that was built without keys.
    update_keys = "usr/share/corten/update-keys.json";
    /// OCI layouts (tar) to import into containerd at boot: `pause.tar`, `coredns.tar`.
    image_archives = "usr/share/corten/images";
    cni_plugins = "usr/libexec/cni";
    ca_certificates = "etc/ssl/certs/ca-certificates.crt";
    nodeagent = "usr/bin/nodeagent";
}
