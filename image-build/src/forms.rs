//! The forms that a platform asks for, made from what every image has: the root, its hash tree, the UKI, and the disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::platform::{DISK_QCOW2, DISK_RAW, DISK_TAR_GZ, DISK_VHD, Form, ISO, Platform};
use crate::progress::Progress;
use crate::{filesystem, iso, network_boot};

/// What the forms are made from. The files of [`crate::image`] lie in `folder`.
#[derive(Debug)]
pub struct Parts<'a> {
    pub folder: &'a Path,
    pub kernel: &'a [u8],
    pub initramfs: &'a [u8],
    pub command_line: &'a str,
    pub root_hash: &'a str,
    pub version: &'a str,
    pub profile: &'a str,
    pub enrolled: &'a [(String, Vec<u8>)],
    pub date: u64,
}

/// Makes all of them. The raw disk goes when it was only on the way to another form.
pub fn make(platform: &Platform, parts: &Parts<'_>, progress: &Progress) -> Result<()> {
    let raw = parts.folder.join(DISK_RAW);
    for form in &platform.outputs {
        one(*form, &raw, parts, progress)?;
    }
    if !platform.outputs.contains(&Form::Raw) {
        fs::remove_file(&raw).with_context(|| format!("removing {}", raw.display()))?;
    }
    Ok(())
}

fn one(form: Form, raw: &Path, parts: &Parts<'_>, progress: &Progress) -> Result<()> {
    let at = |name: &str| parts.folder.join(name);
    match form {
        Form::Raw => Ok(()),
        Form::Qcow2 => {
            progress.phase("QCOW2");
            filesystem::qcow2(raw, &at(DISK_QCOW2))
        }
        Form::Vhd => {
            progress.phase("VHD");
            filesystem::vhd(raw, &at(DISK_VHD), parts.date, parts.root_hash)
        }
        Form::TarGz => {
            progress.phase("tar archive");
            filesystem::google_archive(raw, &at(DISK_TAR_GZ), parts.date)
        }
        Form::Pxe => {
            progress.phase("network boot");
            network_boot::make(parts.folder, parts.kernel, parts.initramfs, parts.command_line, parts.date)
        }
        Form::Iso => {
            progress.phase("ISO");
            let medium = iso::Parts {
                loader: &at(crate::plan::LOADER),
                uki: &at("uki.efi"),
                root: &at("root.erofs"),
                verity: &at("root.verity"),
                enrolled: parts.enrolled,
                version: parts.version,
                profile: parts.profile,
                root_hash: parts.root_hash,
                date: parts.date,
            };
            iso::make(&at(ISO), &medium, parts.folder)
        }
    }
}
