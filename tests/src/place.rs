//! Where the build puts things.

use std::path::{Path, PathBuf};

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// An image's folder, such as `controlplane`.
pub fn image(profile: &str) -> PathBuf {
    repository().join("build/images").join(profile)
}

/// The sample image: an OCI archive.
pub fn sample_archive() -> PathBuf {
    repository().join("build/images/hello.tar")
}

pub fn kubectl() -> PathBuf {
    repository().join("build/components/kubernetes/bin/kubectl")
}

pub fn machinectl() -> PathBuf {
    repository().join("target/debug/machinectl")
}

pub fn image_build() -> PathBuf {
    repository().join("target/debug/image-build")
}

/// Our programs for the image.
pub fn binaries() -> PathBuf {
    repository().join("target/x86_64-unknown-linux-gnu/image")
}

/// The agent that stops where it is told to (`make failpoint-agent`).
pub fn failpoint_agent() -> PathBuf {
    binaries().join("failpoints/nodeagent")
}

/// What signs the updates that this repository's images take (`make image` makes it once).
pub fn update_key() -> PathBuf {
    repository().join("build/keys/update.key")
}
