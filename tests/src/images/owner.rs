//! Somebody who signs images: the keys that `image-build keys new --secure-boot` makes, images signed with them, and firmware that trusts them.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testbed::Firmware;
use testbed::firmware::{Keys, enrolled};

use super::Build;
use crate::{place, program};

/// Made anew for each test: none of the keys is known elsewhere.
#[derive(Debug)]
pub struct Owner {
    folder: TempDir,
}

impl Owner {
    pub fn new() -> anyhow::Result<Owner> {
        let folder = tempfile::Builder::new().prefix("corten-keys-").tempdir()?;
        let mut command = Command::new(place::image_build());
        command.args(["--quiet", "keys", "new", "--secure-boot", "--out"]).arg(folder.path().join("keys"));
        program::printed(&mut command)?;
        Ok(Owner { folder })
    }

    /// PK, KEK and db: keys, certificates, and the signed variables that enrol them.
    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys/secure-boot")
    }

    /// A place for what lasts as long as the keys.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Has the build sign loader and UKI, and the ISO bring the keys.
    pub fn sign(&self, build: Build) -> Build {
        let keys = self.keys();
        build
            .argument("--secure-boot-key")
            .argument(keys.join("db.key"))
            .argument("--secure-boot-certificate")
            .argument(keys.join("db.crt"))
            .argument("--secure-boot-enroll")
            .argument(keys)
    }

    /// Signed, and with the update key that this repository's images trust.
    pub fn image(&self, profile: &str, version: &str) -> anyhow::Result<PathBuf> {
        let out = self.folder.path().join(format!("{profile}-{version}")).join(profile);
        std::fs::create_dir_all(out.parent().unwrap_or(self.folder.path()))?;
        let build = Build::new(profile, version).argument("--update-key").argument(place::update_key());
        self.sign(build.argument("--update-level").argument("1")).write(&out)?;
        Ok(out)
    }

    /// Firmware that trusts these keys and no other, and enforces that.
    pub fn firmware(&self) -> anyhow::Result<Firmware> {
        let blank = Firmware::find_secure(Keys::None)?;
        let variables = self.folder.path().join("variables.fd");
        enrolled::enrol(&blank.variables, &self.keys(), &variables)?;
        Ok(Firmware { variables, ..blank })
    }
}
