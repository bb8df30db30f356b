//! An image built anew from what is compiled already: another version, another signer, one of our programs replaced.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::stand_in;
use crate::images::program::reworded;
use crate::{place, program};

#[derive(Debug, Clone)]
pub struct Build {
    profile: String,
    version: String,
    replaced: Vec<(String, Vec<u8>)>,
    /// A place in the image, and what stands there.
    stand_in: Option<(String, Vec<u8>)>,
    further: Vec<OsString>,
}

impl Build {
    /// An image of this profile, such as `bare`, that calls itself this version.
    pub fn new(profile: &str, version: &str) -> Build {
        Build { profile: profile.to_owned(), version: version.to_owned(), replaced: Vec::new(), stand_in: None, further: Vec::new() }
    }

    /// Puts another program in the place of ours: `init` (in the initramfs as well) or `nodeagent`.
    pub fn replace(mut self, name: &str, program: Vec<u8>) -> Build {
        self.replaced.push((name.to_owned(), program));
        self
    }

    /// Puts another program at one place in the image, such as `/usr/bin/kubelet`, whoever the program comes from that is there otherwise.
    pub fn stand_in(mut self, place: &str, program: Vec<u8>) -> Build {
        self.stand_in = Some((place.to_owned(), program));
        self
    }

    /// Replaces one of our programs by itself with a word of its constants changed, in all places: behaviour of another release, without
    /// another source.
    pub fn reword(self, name: &str, old: &str, new: &str) -> anyhow::Result<Build> {
        let path = place::binaries().join(name);
        let program = fs::read(&path).with_context(|| format!("{} (make build)", path.display()))?;
        Ok(self.replace(name, reworded(program, old.as_bytes(), new.as_bytes()).with_context(|| path.display().to_string())?))
    }

    /// A further argument of `image-build image`.
    pub fn argument(mut self, argument: impl Into<OsString>) -> Build {
        self.further.push(argument.into());
        self
    }

    /// Writes the image's folder, as `make image` does.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        let programs = tempfile::tempdir()?;
        self.programs(&place::binaries(), programs.path())?;
        let profiles = place::repository().join("configs/profiles");
        let (mut profile, changed) = (profiles.join(&self.profile).with_extension("toml"), tempfile::tempdir()?);
        let mut command = Command::new(place::image_build());
        command.current_dir(place::repository()).arg("--quiet").arg("image");
        if let Some((place, _)) = &self.stand_in {
            profile = stand_in::profile(&profiles, &self.profile, place, changed.path())?;
            // A file where the golden list has a link.
            command.arg("--accept-executables");
        }
        command.arg("--profile").arg(profile).arg("--image-version").arg(&self.version);
        command.arg("--binaries").arg(programs.path()).arg("--out").arg(out).args(&self.further);
        program::printed(&mut command).map(drop)
    }

    /// Our programs, with the replaced ones among them.
    fn programs(&self, built: &Path, folder: &Path) -> anyhow::Result<()> {
        for entry in fs::read_dir(built).with_context(|| format!("{} (make build)", built.display()))? {
            let path = entry?.path();
            if path.is_file() {
                symlink(&path, folder.join(path.file_name().context("a file's name")?))?;
            }
        }
        let stand_in = self.stand_in.iter().map(|(_, program)| (stand_in::NAME.to_owned(), program.clone()));
        for (name, program) in self.replaced.iter().cloned().chain(stand_in) {
            let path = folder.join(&name);
            ensure!(path.exists(), "{name} is none of the programs in {}", built.display());
            fs::remove_file(&path)?;
            fs::write(&path, program)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::program::exits;

    #[test]
    fn a_replaced_program_stands_among_the_others_and_the_built_one_stays() {
        let (built, folder) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for name in ["init", "nodeagent"] {
            fs::write(built.path().join(name), name).expect("write");
        }
        Build::new("bare", "0.2.0").replace("nodeagent", exits(1)).programs(built.path(), folder.path()).expect("programs");
        assert_eq!(fs::read(folder.path().join("nodeagent")).expect("read"), exits(1));
        assert_eq!(fs::read_to_string(folder.path().join("init")).expect("read"), "init");
        assert_eq!(fs::read_to_string(built.path().join("nodeagent")).expect("read"), "nodeagent");
        let other = tempfile::tempdir().expect("a directory");
        let error = Build::new("bare", "0.2.0").replace("shell", exits(1)).programs(built.path(), other.path()).unwrap_err();
        assert!(error.to_string().starts_with("shell is none of the programs"), "{error}");
    }
}
