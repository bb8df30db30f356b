//! Platforms: where a machine of an image runs. A platform brings what differs between them (kernel package, console, drivers, the forms that
//! a disk is delivered in); a profile says what the machine is for. An image is one of each.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::profile::Modules;
use crate::tools::{GZIP, QEMU_IMG, TAR, Tool, XORRISO};

/// The platform of images that name none: virtual machines under QEMU.
pub const DEFAULT: &str = "qemu";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Platform {
    /// As `corten.platform=` tells it to the machine.
    pub name: String,
    pub kernel: Kernel,
    /// Drivers besides the profile's.
    #[serde(default)]
    pub modules: Modules,
    pub outputs: Vec<Form>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kernel {
    /// Debian's meta package; the lock says what it stands for.
    pub package: String,
    /// Arguments, before the profile's: consoles, and what the platform's hardware asks for.
    pub command_line: Vec<String>,
}

/// A form in which an image is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The disk, byte for byte, with holes.
    Raw,
    Qcow2,
    /// A fixed VHD of whole mebibytes: Azure takes no other.
    Vhd,
    /// `disk.raw` in a gzipped tar archive of GNU's old format, as Google Compute Engine takes it.
    TarGz,
    /// A medium to install from: optical disc or USB stick.
    Iso,
    /// Kernel, initramfs with the root in it, and command line, for a boot over the network.
    Pxe,
}

impl Form {
    /// Names in the output folder.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Form::Raw => &[DISK_RAW],
            Form::Qcow2 => &[DISK_QCOW2],
            Form::Vhd => &[DISK_VHD],
            Form::TarGz => &[DISK_TAR_GZ],
            Form::Iso => &[ISO],
            Form::Pxe => &[PXE_KERNEL, PXE_INITRAMFS, PXE_COMMAND_LINE],
        }
    }

    /// Programs of the build host that make it.
    pub fn tools(self) -> &'static [Tool] {
        match self {
            Form::Raw | Form::Pxe => &[],
            Form::Qcow2 | Form::Vhd => &[QEMU_IMG],
            Form::TarGz => &[TAR, GZIP],
            Form::Iso => &[XORRISO],
        }
    }
}

pub const DISK_RAW: &str = "disk.raw";
pub const DISK_QCOW2: &str = "disk.qcow2";
pub const DISK_VHD: &str = "disk.vhd";
pub const DISK_TAR_GZ: &str = "disk.tar.gz";
pub const ISO: &str = "corten.iso";
pub const PXE_KERNEL: &str = "kernel";
pub const PXE_INITRAMFS: &str = "initramfs.pxe";
pub const PXE_COMMAND_LINE: &str = "command-line";

impl Platform {
    /// Reads `<folder>/<name>.toml`.
    pub fn load(folder: &Path, name: &str) -> Result<Platform> {
        let path = folder.join(format!("{name}.toml"));
        if !path.is_file() {
            let known: Vec<String> = Platform::load_all(folder)?.into_iter().map(|platform| platform.name).collect();
            anyhow::bail!("platform {name:?}: no {}; known are {}", path.display(), known.join(", "));
        }
        Platform::read(&path)
    }

    /// All platforms of a folder.
    pub fn load_all(folder: &Path) -> Result<Vec<Platform>> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        ensure!(!paths.is_empty(), "{}: no platforms", folder.display());
        paths.iter().map(|path| Platform::read(path)).collect()
    }

    fn read(path: &Path) -> Result<Platform> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let platform: Platform = toml::from_str(&text).with_context(|| path.display().to_string())?;
        platform.validate(path).with_context(|| path.display().to_string())?;
        Ok(platform)
    }

    fn validate(&self, path: &Path) -> Result<()> {
        let stem = path.file_stem().unwrap_or_default();
        ensure!(stem.to_str() == Some(&self.name), "name {:?}: expected the file's name, {stem:?}", self.name);
        let plain = self.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ensure!(plain, "name {:?}: expected lower-case letters and digits", self.name);
        ensure!(!self.outputs.is_empty(), "outputs: expected at least one");
        let distinct: BTreeSet<Form> = self.outputs.iter().copied().collect();
        ensure!(distinct.len() == self.outputs.len(), "outputs: each can be given once");
        for pattern in self.modules.initramfs.iter().chain(&self.modules.root) {
            glob::Pattern::new(pattern).with_context(|| format!("modules: pattern {pattern:?}"))?;
        }
        Ok(())
    }

    /// What an image of this platform is called: machines take updates of images of the same name only.
    pub fn image_name(&self, profile: &str) -> String {
        if self.name == DEFAULT { profile.to_owned() } else { format!("{profile}-{}", self.name) }
    }

    /// Names in the output folder, in the order of the forms.
    pub fn files(&self) -> impl Iterator<Item = &'static str> {
        self.outputs.iter().flat_map(|form| form.files().iter().copied())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/platforms")
    }

    fn platform(text: &str) -> Result<Platform> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("test.toml"), text).unwrap();
        Platform::load(directory.path(), "test")
    }

    const GOOD: &str = "name = \"test\"\noutputs = [\"raw\", \"pxe\"]\nkernel = { package = \"linux-image-amd64\", command-line = [] }\n";

    #[test]
    fn the_platforms_of_this_repository_are_those_that_the_machine_knows() {
        let platforms = Platform::load_all(&folder()).unwrap();
        let names: Vec<&str> = platforms.iter().map(|platform| platform.name.as_str()).collect();
        assert_eq!(names, ["aws", "azure", "gcp", "metal", "nocloud", "openstack", "qemu"]);
        for platform in platforms {
            // Debian's cloud kernel lacks the drivers of servers, USB storage among them.
            let expected = if platform.name == "metal" { "linux-image-amd64" } else { "linux-image-cloud-amd64" };
            assert_eq!(platform.kernel.package, expected, "{}", platform.name);
            assert!(platform.kernel.command_line.iter().any(|argument| argument.starts_with("console=")), "{}", platform.name);
        }
    }

    #[test]
    fn images_for_the_default_platform_are_named_by_their_profile() {
        assert_eq!(Platform::load(&folder(), "qemu").unwrap().image_name("worker"), "worker");
        assert_eq!(Platform::load(&folder(), "metal").unwrap().image_name("worker"), "worker-metal");
    }

    #[test]
    fn a_forms_files_are_listed() {
        assert_eq!(platform(GOOD).unwrap().files().collect::<Vec<_>>(), ["disk.raw", "kernel", "initramfs.pxe", "command-line"]);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            (GOOD.replace("\"test\"", "\"other\""), "expected the file's name"),
            (GOOD.replace("\"raw\", \"pxe\"", ""), "at least one"),
            (GOOD.replace("\"pxe\"", "\"raw\""), "each can be given once"),
            (GOOD.replace("\"pxe\"", "\"vmdk\""), "unknown variant `vmdk`"),
            (format!("{GOOD}kernels = 1\n"), "unknown field `kernels`"),
        ] {
            let error = format!("{:#}", platform(&text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = format!("{:#}", Platform::load(&folder(), "mars").unwrap_err());
        assert!(error.contains("platform \"mars\"") && error.contains("known are aws, azure, gcp"), "{error}");
    }
}
