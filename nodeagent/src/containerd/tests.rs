//! With the real containerd, as `make components` builds it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::{images, import_archive, list_images};

/// A containerd of its own under a temporary directory; it ends with the value.
struct Containerd {
    directory: tempfile::TempDir,
    _process: Child,
}

impl Containerd {
    async fn start(program: &Path) -> Containerd {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let config = format!(
            "version = 3\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("socket")
        );
        std::fs::write(directory.path().join("config.toml"), config).unwrap();
        let process = Command::new(program)
            .args(["--config", &path("config.toml")])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
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

/// An OCI archive with one image of one layer, as big as said, named or not.
fn archive(directory: &Path, name: Option<&str>, layer_bytes: usize) -> Vec<u8> {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
        std::fs::write(blobs.join(&digest), bytes).unwrap();
        (digest, bytes.len())
    };
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(layer_bytes as u64);
    header.set_mode(0o644);
    let content: Vec<u8> = (0..layer_bytes).map(|byte| (byte * 7 % 251) as u8).collect();
    tar.append_data(&mut header, "content", content.as_slice()).unwrap();
    let layer_tar = tar.into_inner().unwrap();
    let (layer, layer_size) = blob(&layer_tar);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
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

fn program() -> PathBuf {
    let components = std::env::var_os("CORTEN_COMPONENTS");
    let components = components.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/components"), PathBuf::from);
    let path = components.join("containerd/bin/containerd");
    assert!(path.exists(), "{} is not there: run `make components` first, or set CORTEN_COMPONENTS", path.display());
    path
}

#[tokio::test]
async fn archives_are_imported_by_their_own_names() {
    let containerd = Containerd::start(&program()).await;
    let directory = tempfile::tempdir().unwrap();
    let name = "registry.example/sample:1";
    let bytes = archive(&directory.path().join("named"), Some(name), 3 * 1024 * 1024);

    for _ in 0..2 {
        assert_eq!(import_archive(&containerd.socket(), bytes.as_slice()).await.unwrap(), [name]);
    }
    let listed = images(&containerd.socket()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].digest.starts_with("sha256:") && listed[0].created_at.is_some(), "{listed:?}");
    assert_eq!(list_images(&containerd.socket()).await.unwrap()[name], listed[0].digest);

    let nameless = archive(&directory.path().join("nameless"), None, 10);
    assert_eq!(import_archive(&containerd.socket(), nameless.as_slice()).await.unwrap(), Vec::<String>::new());

    let garbage = import_archive(&containerd.socket(), &[7; 100_000][..]).await.unwrap_err();
    assert!(format!("{garbage:#}").contains("importing into containerd"), "{garbage:#}");
    let cut = import_archive(&containerd.socket(), &bytes[..bytes.len() / 2]).await;
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(images(&containerd.socket()).await.unwrap().len(), 1);
}
