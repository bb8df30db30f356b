//! The upstream programs, for tests that run the real ones.

use std::path::{Path, PathBuf};

/// A file or folder of what `make components` builds, such as `etcd/bin/etcd`.
pub fn component(path: &str) -> PathBuf {
    let components = std::env::var_os("CORTEN_COMPONENTS");
    let components = components.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/components"), PathBuf::from);
    let path = components.join(path);
    assert!(path.exists(), "{} is not there: run `make components` first, or set CORTEN_COMPONENTS", path.display());
    std::fs::canonicalize(path).unwrap()
}
