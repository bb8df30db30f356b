//! Small media with files for a machine to read, such as the volume that a NoCloud config comes on: an ISO, or a FAT file system that
//! fills its disk.

use std::fs;
use std::path::Path;

use crate::Error;
use crate::program::Program;

const XORRISO: Program = Program { name: "xorriso", package: "xorriso" };
const MKFS_FAT: Program = Program { name: "mkfs.fat", package: "dosfstools" };
const MMD: Program = Program { name: "mmd", package: "mtools" };
const MCOPY: Program = Program { name: "mcopy", package: "mtools" };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// ISO 9660 with Rock Ridge and Joliet names.
    Iso,
    /// FAT of this many bytes, a multiple of 1024, for a disk with sectors of this size.
    Fat { size_bytes: u64, sector_bytes: u64 },
}

/// Writes a medium with these files, named by their paths on it (`user-data`, `openstack/latest/user_data`). The label is the volume's:
/// `cidata` for NoCloud, `config-2` for a config drive. An earlier one at the path is replaced.
pub fn write(path: &Path, form: Form, label: &str, files: &[(&str, &[u8])]) -> Result<(), Error> {
    let folder = tempfile::tempdir().map_err(Error::file("make a directory in", std::env::temp_dir()))?;
    for (name, content) in files {
        let file = folder.path().join(name);
        let parent = file.parent().unwrap_or(folder.path());
        fs::create_dir_all(parent).map_err(Error::file("make directory", parent))?;
        fs::write(&file, content).map_err(Error::file("write", &file))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("replace", path)(error)),
        _ => {}
    }
    match form {
        Form::Iso => iso(path, label, folder.path()),
        Form::Fat { size_bytes, sector_bytes } => fat(path, label, size_bytes, sector_bytes, folder.path()),
    }
}

fn iso(path: &Path, label: &str, folder: &Path) -> Result<(), Error> {
    let mut command = XORRISO.command();
    // On Debian 12 mkisofs' words are the only ones that give Joliet as well.
    command.args(["-as", "mkisofs", "-quiet", "-volid", label, "-rock", "-joliet", "-output"]).arg(path).arg(folder);
    XORRISO.run(command).map(drop)
}

fn fat(path: &Path, label: &str, size_bytes: u64, sector_bytes: u64, folder: &Path) -> Result<(), Error> {
    let mut command = MKFS_FAT.command();
    // The label as it is given: NoCloud's is lower case.
    command
        .args(["-S", &sector_bytes.to_string(), "-n", label, "-C"])
        .arg(path)
        .arg((size_bytes / 1024).to_string())
        .env("PATH", path_with_sbin());
    MKFS_FAT.run(command)?;
    copy_into(path, folder, "::")
}

/// Copies what the directory holds to `target` on the FAT file system, such as `::openstack`.
fn copy_into(image: &Path, directory: &Path, target: &str) -> Result<(), Error> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("list", directory))?.path();
        let name = format!("{target}/{}", entry.file_name().unwrap_or_default().to_string_lossy());
        if entry.is_dir() {
            let mut command = MMD.command();
            command.arg("-i").arg(image).arg(&name);
            MMD.run(command)?;
            copy_into(image, &entry, &name)?;
        } else {
            let mut command = MCOPY.command();
            command.arg("-i").arg(image).arg(&entry).arg(&name);
            MCOPY.run(command)?;
        }
    }
    Ok(())
}

/// Debian keeps mkfs.fat where only root's PATH looks.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const FILES: &[(&str, &[u8])] = &[("user-data", b"kind: MachineConfig\n"), ("openstack/latest/meta_data.json", b"{}")];

    fn printed(command: &mut Command) -> String {
        let output = command.output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    #[test]
    fn a_fat_medium_has_its_label_and_files_and_is_replaced_when_written_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("seed.img");
        for files in [&FILES[..1], FILES] {
            write(&path, Form::Fat { size_bytes: 1 << 20, sector_bytes: 512 }, "cidata", files).expect("a medium");
        }
        assert_eq!(fs::metadata(&path).expect("the medium").len(), 1 << 20);
        assert!(printed(Command::new("mlabel").arg("-s").arg("-i").arg(&path).arg("::")).contains("cidata"));
        let read = |name: &str| printed(Command::new("mtype").arg("-i").arg(&path).arg(format!("::{name}")));
        assert_eq!(read("user-data"), "kind: MachineConfig\n");
        assert_eq!(read("openstack/latest/meta_data.json"), "{}");
    }

    #[test]
    fn an_iso_has_its_label_and_files() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("seed.iso");
        write(&path, Form::Iso, "cidata", FILES).expect("a medium");
        let mut list = Command::new("xorriso");
        list.arg("-indev").arg(&path).args(["-pvd_info", "-find", "/", "-type", "f"]);
        let seen = printed(&mut list);
        assert!(seen.contains("Volume Id    : cidata"), "{seen}");
        for (name, _) in FILES {
            assert!(seen.contains(&format!("'/{name}'")), "{seen}");
        }
    }
}
