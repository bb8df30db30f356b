//! Kernel, initramfs and command line out of an image's UKI, so that QEMU can start them without firmware and boot loader.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use object::{Object, ObjectSection};

#[derive(Debug)]
pub struct Kernel {
    /// `6.12.117+deb13-cloud-amd64`
    pub release: String,
    pub path: PathBuf,
    pub initramfs: PathBuf,
    pub command_line: String,
}

impl Kernel {
    /// Writes the parts to `folder`.
    pub fn of(image: &Path, folder: &Path) -> anyhow::Result<Kernel> {
        let uki = image.join("uki.efi");
        let bytes = fs::read(&uki).with_context(|| format!("reading {} (make image)", uki.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("{} is no PE file", uki.display()))?;
        let section = |name: &str| {
            let section = file.section_by_name(name).with_context(|| format!("{} has no section {name}", uki.display()))?;
            section.data().with_context(|| format!("section {name} of {}", uki.display()))
        };
        let text = |name: &str| anyhow::Ok(String::from_utf8_lossy(section(name)?).trim_end_matches(['\0', '\n']).to_owned());
        fs::create_dir_all(folder)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).with_context(|| format!("writing {}", path.display())).map(|()| path)
        };
        let kernel = Kernel {
            release: text(".uname")?,
            path: write("vmlinuz", section(".linux")?)?,
            initramfs: write("initramfs", section(".initrd")?)?,
            command_line: text(".cmdline")?,
        };
        ensure!(!kernel.release.is_empty(), "{} does not name its kernel", uki.display());
        Ok(kernel)
    }

    /// What holds for a peer too: the console, and what the kernel checks and refuses.
    pub fn common_command_line(&self) -> String {
        let words = self.command_line.split_whitespace().filter(|word| !word.starts_with("corten."));
        words.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_all_but_our_own_parameters() {
        let kernel = Kernel {
            release: String::new(),
            path: PathBuf::new(),
            initramfs: PathBuf::new(),
            command_line: "console=ttyS0 quiet corten.roothash=00 panic=10".to_owned(),
        };
        assert_eq!(kernel.common_command_line(), "console=ttyS0 quiet panic=10");
    }
}
