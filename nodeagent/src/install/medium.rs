//! What the machine was booted from, as files to install: all that a slot and the boot loader need.

use std::path::PathBuf;

use machine::Root;
use machine::disk::Partition;

use crate::refusal::Refusal;
use crate::upgrade::uki;

const DIRECTORY: &str = "corten";

/// Files of the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    pub root: PathBuf,
    pub verity: PathBuf,
    pub uki: PathBuf,
    /// systemd-boot
    pub loader: PathBuf,
}

impl Medium {
    /// Finds the files, and makes sure that they fit into a slot and belong to the root that runs.
    pub fn open(root: &Root, root_hash: &str) -> Result<Medium, Refusal> {
        let file = |name: &str| root.medium().join(DIRECTORY).join(name);
        let medium =
            Medium { root: file("root.erofs"), verity: file("root.verity"), uki: file("uki.efi"), loader: file("systemd-bootx64.efi") };
        let places = [(&medium.root, Partition::RootA), (&medium.verity, Partition::RootAVerity)];
        let on_esp = [(&medium.uki, Partition::Esp), (&medium.loader, Partition::Esp)];
        for (path, partition) in places.into_iter().chain(on_esp) {
            let length = std::fs::metadata(path).map_err(|error| unfit(format!("{}: {error}", path.display())))?.len();
            let most = partition.size_bytes();
            if length == 0 || length > most {
                let problem = format!("{} has {length} bytes; partition {} takes 1 to {most}", path.display(), partition.label());
                return Err(unfit(problem));
            }
        }
        uki::check(&medium.uki, root_hash).map_err(|error| unfit(format!("{:#}", anyhow::Error::from(error))))?;
        Ok(medium)
    }
}

fn unfit(problem: String) -> Refusal {
    let remedy = "boot the ISO image, or a network image that holds all files of it below /corten";
    Refusal::state("MEDIUM_UNFIT", format!("the medium cannot be installed from: {problem}"), remedy)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::upgrade::fixtures::uki;

    #[test]
    fn what_is_missing_or_belongs_to_another_root_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (root, hash) = (Root::new(directory.path()), "ab".repeat(32));
        let problem = || Medium::open(&root, &hash).unwrap_err().to_string();
        let place = root.medium().join(DIRECTORY);
        fs::create_dir_all(&place).unwrap();
        for name in ["root.erofs", "root.verity", "uki.efi", "systemd-bootx64.efi"] {
            assert!(problem().contains(&format!("{name}: No such file")), "{}", problem());
            fs::write(place.join(name), "x").unwrap();
        }
        assert!(problem().contains("the UKI is no program"), "{}", problem());
        fs::write(place.join("uki.efi"), uki(&format!("corten.roothash={}", "cd".repeat(32)), b"kernel")).unwrap();
        assert!(problem().contains("boots another root"), "{}", problem());
        fs::write(place.join("uki.efi"), uki(&format!("corten.roothash={hash}"), b"kernel")).unwrap();
        assert_eq!(Medium::open(&root, &hash).unwrap().root, place.join("root.erofs"));
        fs::write(place.join("root.verity"), "").unwrap();
        assert!(problem().contains("root.verity has 0 bytes; partition ROOT-A-VERITY takes 1 to 67108864"), "{}", problem());
    }
}
