//! Files for a boot over the network (PXE): the kernel, its initramfs with the root in it, and the command line. Firmware or boot loader
//! fetch them from wherever the user puts them; nothing on the machine is asked for. The kernel is Debian's and as signed as Debian signs it:
//! machines that demand the owner's Secure Boot keys boot from the ISO image instead.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::initramfs::Archive;
use crate::plan::LOADER;
use crate::platform::{PXE_COMMAND_LINE, PXE_INITRAMFS, PXE_KERNEL};

/// Where stage 1 looks for the root in its own initramfs, and the installer for all else that a disk is to have.
const FILES: [(&str, &str); 4] = [
    ("/corten/root.erofs", "root.erofs"),
    ("/corten/root.verity", "root.verity"),
    ("/corten/uki.efi", "uki.efi"),
    ("/corten/systemd-bootx64.efi", LOADER),
];
/// The root is hundreds of megabytes, and boot servers are near.
const LEVEL: i32 = 6;

/// Writes the files into the output folder, in which what the archive takes in lies.
pub fn make(folder: &Path, kernel: &[u8], initramfs: &[u8], command_line: &str, date: u64) -> Result<()> {
    let put = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).with_context(|| format!("writing {name}"));
    put(PXE_KERNEL, kernel)?;
    put(PXE_COMMAND_LINE, format!("{command_line}\n").as_bytes())?;
    let path = folder.join(PXE_INITRAMFS);
    let file = File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
    with_root(BufWriter::new(file), folder, initramfs, date).with_context(|| format!("writing {}", path.display()))
}

/// The initramfs, and behind it a second archive, which the kernel unpacks over the first.
fn with_root(mut out: impl Write, folder: &Path, initramfs: &[u8], date: u64) -> Result<()> {
    out.write_all(initramfs)?;
    // Between archives there may be zeros, and each begins on a multiple of four (buffer-format.rst).
    out.write_all(&[0; 4][..initramfs.len().next_multiple_of(4) - initramfs.len()])?;
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    // With a fixed number of workers the result is always the same.
    encoder.multithread(2)?;
    let mut archive = Archive::new(encoder, date)?;
    archive.directory("/corten")?;
    for (path, name) in FILES {
        archive.file(path, &folder.join(name))?;
    }
    archive.end()?.finish()?.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_root_follows_the_initramfs_in_an_archive_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        for (_, name) in FILES {
            fs::write(directory.path().join(name), name.repeat(1000)).unwrap();
        }
        let first = zstd::encode_all(b"first archive".as_slice(), 1).unwrap();
        make(directory.path(), b"kernel", &first, "quiet", 1_700_000_000).unwrap();
        let written = fs::read(directory.path().join(PXE_INITRAMFS)).unwrap();
        let second = first.len().next_multiple_of(4);
        assert_eq!(written[..first.len()], first);
        let mut archive = Vec::new();
        zstd::Decoder::new(&written[second..]).unwrap().read_to_end(&mut archive).unwrap();
        let text = String::from_utf8(archive).unwrap();
        let names =
            ["corten\0", "corten/root.erofs\0", "corten/root.verity\0", "corten/uki.efi\0", "corten/systemd-bootx64.efi\0", "TRAILER!!!\0"];
        let places = names.map(|name| text.find(name).unwrap());
        assert!(places.is_sorted(), "{places:?}");
        assert!(FILES.iter().all(|(_, name)| text.contains(&name.repeat(1000))));
        assert_eq!(fs::read_to_string(directory.path().join(PXE_COMMAND_LINE)).unwrap(), "quiet\n");
    }
}
