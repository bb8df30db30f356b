//! With the real containerd, as `make components` builds it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use metrics::names::Pod;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{connect, images, import_archive, import_pinned, list_images, names, sandbox, try_sandbox};
use crate::components::component;

/// Nobody serves it.
const PAUSE: &str = "127.0.0.1:1/pause:1";

/// A containerd of its own under a temporary directory; it ends with the value.
struct Containerd {
    directory: tempfile::TempDir,
    _process: Child,
}

impl Containerd {
    /// Without the kubelet's interface, which gives images further names of its own.
    async fn without_pods() -> Containerd {
        let disabled = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"];
        Containerd::start(json!({ "disabled_plugins": disabled })).await
    }

    /// With the kubelet's interface, and the programs of a folder as its CNI plugins.
    async fn with_plugins(plugins: &Path) -> Containerd {
        let runtime = json!({
            "netns_mounts_under_state_dir": true,
            // Of the host that the tests run on, nothing is changed.
            "disable_cgroup": true,
            "restrict_oom_score_adj": true,
            "cni": { "bin_dirs": [plugins], "conf_dir": "networks.d" },
            "containerd": { "runtimes": { "runc": {
                "runtime_type": "io.containerd.runc.v2",
                "options": { "BinaryName": component("runc/bin/runc") },
            } } },
        });
        let images = json!({ "pinned_images": { "sandbox": PAUSE } });
        let plugins = json!({ "io.containerd.cri.v1.images": images, "io.containerd.cri.v1.runtime": runtime });
        Containerd::start(json!({ "plugins": plugins })).await
    }

    /// Plugins change the network: all of it has one of its own. Relative paths are those of its directory.
    async fn start(mut config: Value) -> Containerd {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let ipam = json!({ "type": "host-local", "dataDir": path("networks"), "ranges": [[{ "subnet": "10.244.1.0/24" }]] });
        let plugin = json!({ "type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam });
        let network = json!({ "cniVersion": "1.0.0", "name": "test", "plugins": [plugin] });
        std::fs::create_dir(path("networks.d")).unwrap();
        std::fs::write(path("networks.d/10-test.conflist"), network.to_string()).unwrap();
        config["version"] = json!(3);
        (config["root"], config["state"]) = (json!(path("root")), json!(path("state")));
        config["grpc"] = json!({ "address": path("socket") });
        std::fs::write(path("config.toml"), toml::to_string(&config).unwrap()).unwrap();
        let process = Command::new("unshare")
            .arg("--net")
            .arg(component("containerd/bin/containerd"))
            .args(["--config", &path("config.toml")])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let containerd = Containerd { directory, _process: process };
        let answers = async {
            while images(&containerd.socket()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let log = || std::fs::read_to_string(containerd.directory.path().join("log")).unwrap_or_default();
        tokio::time::timeout(Duration::from_secs(30), answers).await.unwrap_or_else(|_| panic!("containerd does not answer:\n{}", log()));
        containerd
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

impl Drop for Containerd {
    /// The branches that a sandbox's cgroups were in; those that are in use stay.
    fn drop(&mut self) {
        let controllers = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in controllers.chain([PathBuf::from("/sys/fs/cgroup")]) {
            for branch in ["kubepods/besteffort", "kubepods"] {
                let _ = std::fs::remove_dir(hierarchy.join(branch));
            }
        }
    }
}

/// An OCI archive with one image of one file, which is its program, named or not.
fn archive(directory: &Path, name: Option<&str>, program: &[u8]) -> Vec<u8> {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
        std::fs::write(blobs.join(&digest), bytes).unwrap();
        (digest, bytes.len())
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "program", program).unwrap();
    let layer_tar = tar.into_inner().unwrap();
    let (layer, layer_size) = blob(&layer_tar);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Entrypoint": ["/program"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    });
    let (config, config_size) = blob(config.to_string().as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{config}"), "size": config_size },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": format!("sha256:{layer}"), "size": layer_size }],
    });
    let (manifest, manifest_size) = blob(manifest.to_string().as_bytes());
    let annotations = name.map(|name| serde_json::json!({ "io.containerd.image.name": name }));
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{manifest}"), "size": manifest_size,
            "annotations": annotations, "platform": { "architecture": "amd64", "os": "linux" },
        }],
    });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", directory).unwrap();
    tar.into_inner().unwrap()
}

fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|byte| (byte * 7 % 251) as u8).collect()
}

#[tokio::test]
async fn archives_are_imported_by_their_own_names() {
    let containerd = Containerd::without_pods().await;
    let directory = tempfile::tempdir().unwrap();
    let name = "registry.example/sample:1";
    let bytes = archive(&directory.path().join("named"), Some(name), &bytes_of(3 * 1024 * 1024));

    for _ in 0..2 {
        assert_eq!(import_archive(&containerd.socket(), bytes.as_slice()).await.unwrap(), [name]);
    }
    let listed = images(&containerd.socket()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].digest.starts_with("sha256:") && listed[0].created_at.is_some(), "{listed:?}");
    assert_eq!(list_images(&containerd.socket()).await.unwrap()[name], listed[0].digest);

    let nameless = archive(&directory.path().join("nameless"), None, &bytes_of(10));
    assert_eq!(import_archive(&containerd.socket(), nameless.as_slice()).await.unwrap(), Vec::<String>::new());

    let garbage = import_archive(&containerd.socket(), &[7; 100_000][..]).await.unwrap_err();
    assert!(format!("{garbage:#}").contains("importing into containerd"), "{garbage:#}");
    let cut = import_archive(&containerd.socket(), &bytes[..bytes.len() / 2]).await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(images(&containerd.socket()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_sandbox_tells_whether_pods_get_a_network() {
    let broken = tempfile::tempdir().unwrap();
    for (plugin, program) in [("bridge", "/bin/false".into()), ("loopback", component("cni/bin/loopback"))] {
        std::os::unix::fs::symlink(program, broken.path().join(plugin)).unwrap();
    }
    let containerd = Containerd::with_plugins(broken.path()).await;
    let error = format!("{:#}", try_sandbox(&containerd.socket(), "one").await.unwrap_err());
    assert!(error.starts_with("starting a pod's sandbox: ") && error.contains("plugin type=\"bridge\" failed (add)"), "{error}");

    let containerd = Containerd::with_plugins(&component("cni/bin")).await;
    let error = format!("{:#}", try_sandbox(&containerd.socket(), "one").await.unwrap_err());
    assert!(error.contains(PAUSE) && !error.contains("plugin type"), "without the image: {error}");
    // Any static program does: a sandbox that ends at once has started.
    let program = std::fs::read(component("cni/bin/loopback")).unwrap();
    let image = archive(containerd.directory.path().join("image").as_path(), Some(PAUSE), &program);
    import_pinned(&containerd.socket(), std::io::Cursor::new(image)).await.unwrap();
    for uid in ["two", "three"] {
        try_sandbox(&containerd.socket(), uid).await.unwrap();
    }
    pods_are_called_as_they_were_made(&containerd.socket()).await;
}

async fn pods_are_called_as_they_were_made(socket: &Path) {
    let channel = connect(socket).await.unwrap().channel();
    let sandbox = sandbox::run(&channel, "four").await.unwrap();
    let found = names(socket, PAUSE).await.unwrap();
    assert_eq!(found.pods["four"], Pod { namespace: "kube-system".to_owned(), name: "corten-gate".to_owned() });
    assert_eq!(found.is_sandbox(&sandbox.id), Some(true));
    sandbox::remove(&channel, &sandbox).await;
    assert_eq!(names(socket, PAUSE).await.unwrap(), metrics::Names::default());
}
