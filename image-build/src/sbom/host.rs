//! Debian packages of the build host whose static libraries are linked into programs of the image.

use std::path::Path;
use std::process::Command;

use super::copyright::{self, Copyright};
use crate::components::record::NativePackage;

/// The C library, which is in every static program that is not pure Go.
pub const LIBC: &str = "libc6-dev";

/// Version and licence of a package. On a host without dpkg both are unknown, which is no reason to fail a build.
pub fn package(name: &str) -> NativePackage {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]).output();
    let version = query.ok().filter(|output| output.status.success()).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let file = Path::new("/usr/share/doc").join(name).join("copyright");
    let copyright = match std::fs::read(&file) {
        Ok(text) => copyright::read(name, &String::from_utf8_lossy(&text)),
        Err(_) => Copyright::unknown(format!("no {}", file.display())),
    };
    NativePackage { version: version.unwrap_or_else(|| "unknown".to_owned()), copyright }
}
