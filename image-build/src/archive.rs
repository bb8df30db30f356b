//! Container images with one program, as OCI archives (OCI Image Layout 1.1 in a tar file): what containerd imports without a registry.
//! The same program gives the same bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::digest;

#[derive(Debug, Clone)]
pub struct Image {
    /// Full name with tag: `corten.dev/pause:0.1.0`.
    pub name: String,
    /// Files by absolute path, with whether they can be executed.
    pub files: BTreeMap<String, (Vec<u8>, bool)>,
    pub entrypoint: Vec<String>,
    /// `uid:gid`
    pub user: String,
    /// `8080/tcp`
    pub ports: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// Seconds since the epoch.
    pub date: u64,
}

/// An image of one program, which is its entry point.
pub fn of_program(name: &str, path: &str, program: Vec<u8>, user: &str, date: u64) -> Image {
    Image {
        name: name.to_owned(),
        files: BTreeMap::from([(path.to_owned(), (program, true))]),
        entrypoint: vec![path.to_owned()],
        user: user.to_owned(),
        ports: vec![],
        labels: BTreeMap::new(),
        date,
    }
}

pub fn pack(image: &Image) -> Result<Vec<u8>> {
    let (repository, tag) =
        image.name.rsplit_once(':').with_context(|| format!("image name {:?}: expected <repository>:<tag>", image.name))?;
    ensure!(
        !tag.is_empty() && !tag.contains('/') && repository.contains('/'),
        "image name {:?}: expected <host>/<repository>:<tag>",
        image.name
    );
    ensure!(is_user(&image.user), "user {:?}: expected <uid>:<gid>", image.user);
    let layer = layer(image)?;
    let layer_digest = digest::bytes(&layer);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": created(image.date)?,
        "config": {
            "User": image.user,
            "Entrypoint": image.entrypoint,
            "ExposedPorts": image.ports.iter().map(|port| (port.clone(), json!({}))).collect::<serde_json::Map<_, _>>(),
            "Labels": image.labels,
            "Env": ["PATH=/usr/bin:/bin"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": created(image.date)?, "created_by": "image-build archive" }],
    });
    let config = canonical(config);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = canonical(manifest);
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    // containerd takes the whole name from its own annotation, others the tag from OCI's.
    entry["annotations"] = json!({ "io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry] });

    let mut archive = Tar::new(image.date);
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, false)?;
    archive.file("index.json", &canonical(index), false)?;
    archive.directory("blobs")?;
    archive.directory("blobs/sha256")?;
    for blob in [manifest, config, layer] {
        archive.file(&format!("blobs/sha256/{}", digest::bytes(&blob)), &blob, false)?;
    }
    archive.finish()
}

fn layer(image: &Image) -> Result<Vec<u8>> {
    let mut layer = Tar::new(image.date);
    let mut made: Vec<String> = Vec::new();
    for (path, (bytes, executable)) in &image.files {
        let name = path.strip_prefix('/').with_context(|| format!("path {path:?} in an image: expected an absolute one"))?;
        for (end, _) in name.match_indices('/') {
            let directory = &name[..end];
            if !made.iter().any(|d| d == directory) {
                layer.directory(directory)?;
                made.push(directory.to_owned());
            }
        }
        layer.file(name, bytes, *executable)?;
    }
    layer.finish()
}

/// Fields in the order of their names: that of the program text would depend on a feature of serde_json that other crates switch on.
fn canonical(mut value: Value) -> Vec<u8> {
    value.sort_all_objects();
    value.to_string().into_bytes()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", digest::bytes(bytes)), "size": bytes.len() })
}

fn created(date: u64) -> Result<String> {
    let date = time::OffsetDateTime::from_unix_timestamp(i64::try_from(date)?)?;
    Ok(date.format(&time::format_description::well_known::Rfc3339)?)
}

fn is_user(user: &str) -> bool {
    user.split_once(':').is_some_and(|(uid, gid)| [uid, gid].iter().all(|id| id.parse::<u32>().is_ok()))
}

/// A tar file whose entries all belong to root and carry one date.
struct Tar {
    builder: tar::Builder<Vec<u8>>,
    date: u64,
}

impl Tar {
    fn new(date: u64) -> Tar {
        Tar { builder: tar::Builder::new(Vec::new()), date }
    }

    fn file(&mut self, name: &str, bytes: &[u8], executable: bool) -> Result<()> {
        self.append(tar::EntryType::Regular, name, bytes, if executable { 0o755 } else { 0o644 })
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.append(tar::EntryType::Directory, &format!("{name}/"), &[], 0o755)
    }

    fn append(&mut self, kind: tar::EntryType, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.date);
        header.set_size(bytes.len() as u64);
        self.builder.append_data(&mut header, name, bytes).with_context(|| format!("packing {name}"))
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.builder.into_inner()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(path, bytes);
        }
        found
    }

    #[test]
    fn digests_lead_from_the_index_to_the_program() {
        let mut image = of_program("corten.dev/hello:1.0", "/usr/bin/hello", b"program".to_vec(), "65532:65532", 1_700_000_000);
        image.ports.push("8080/tcp".into());
        let packed = pack(&image).unwrap();
        assert!(packed == pack(&image).unwrap(), "not the same twice");
        let files = files(&packed);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let bytes = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!((digest, descriptor["size"].as_u64().unwrap()), (digest::bytes(bytes).as_str(), bytes.len() as u64));
            bytes
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&files["index.json"]);
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "corten.dev/hello:1.0");
        let manifest = parse(blob(entry));
        let config = parse(blob(&manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/hello"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(super::tests::files(layer)["usr/bin/hello"], b"program");
    }

    #[test]
    fn refuses_names_and_users_that_containerd_would_read_otherwise() {
        for (name, user) in [("corten.dev/hello", "1:1"), ("hello:1", "1:1"), ("corten.dev/hello:1", "nobody")] {
            assert!(pack(&of_program(name, "/x", vec![], user, 0)).is_err(), "{name} {user}");
        }
    }
}
