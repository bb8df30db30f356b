//! containerd's config file (version 3, as of containerd 2).

use machine::Root;
use machine::account::Account;
use machine::config::Config;
use machine::file::File;
use serde_json::{Map, Value, json};

/// What this machine has no use for. Snapshotters other than overlayfs need volumes of their own; NRI lets other processes change
/// containers; `opt` wants to make a directory in the read-only root.
const DISABLED_PLUGINS: [&str; 11] = [
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.differ.v1.erofs",
    "io.containerd.mount-handler.v1.erofs",
    "io.containerd.internal.v1.opt",
    "io.containerd.monitor.container.v1.restart",
    "io.containerd.nri.v1.nri",
];

pub fn config(root: &Root, config: &Config, pause: &str) -> Result<File, toml::ser::Error> {
    let images = json!({
        "snapshotter": "overlayfs",
        "pinned_images": { "sandbox": pause },
        "registry": { "config_path": root.registry_hosts(), "configs": credentials(config) },
    });
    let runtime = json!({
        "cni": { "bin_dirs": [root.cni_plugins(), root.path("/opt/cni/bin")], "conf_dir": root.path("/etc/cni/net.d"), "use_internal_loopback": false },
        "containerd": {
            "default_runtime_name": "runc",
            "runtimes": { "runc": {
                "runtime_type": "io.containerd.runc.v2",
                "options": { "BinaryName": "/usr/bin/runc", "SystemdCgroup": false },
            } },
        },
        "netns_mounts_under_state_dir": false,
    });
    let text = toml::to_string(&json!({
        "version": 3,
        "root": root.containerd_directory(),
        "state": root.path("/run/containerd"),
        "oom_score": -999,
        "grpc": { "address": root.containerd_socket() },
        "disabled_plugins": DISABLED_PLUGINS,
        "plugins": {
            "io.containerd.cri.v1.images": images,
            "io.containerd.cri.v1.runtime": runtime,
            // Layers and metadata that nothing uses any more go soon after the images that the kubelet removes.
            "io.containerd.gc.v1.scheduler": { "startup_delay": "30s" },
        },
    }))?;
    // It holds credentials of registries.
    Ok(File { path: root.containerd_config(), mode: 0o600, account: Account::Root, contents: text.into_bytes() })
}

fn credentials(config: &Config) -> Map<String, Value> {
    let entry = |(host, credential): (&String, &machine::config::Credential)| {
        let auth = json!({ "auth": { "username": credential.username, "password": credential.password.reveal() } });
        (host.clone(), auth)
    };
    config.machine.registries.credentials.iter().map(entry).collect()
}
