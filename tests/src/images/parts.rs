//! The parts of an update, as a built image has them or changed on purpose.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use machine::disk::Slot;
use machine::protocol::ImageFacts;
use serde::Deserialize;
use update::{Header, PartName, SigningKey, Version};

use crate::program;

/// What stands in an image's folder.
const ROOT: &str = "root.erofs";
const VERITY: &str = "root.verity";
const UKI: &str = "uki.efi";
/// zstd's: tests write files, they do not ship them.
const LEVEL: i32 = 1;

/// Files, and what the manifest will say of them. A method that changes one writes the changed copy to a folder and leaves the image alone.
#[derive(Debug, Clone)]
pub struct Parts {
    pub root: PathBuf,
    pub verity: PathBuf,
    pub uki: PathBuf,
    pub header: Header,
}

/// Of an image's `manifest.json`, what is needed here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageManifest {
    image: ImageFacts,
    kernel_release: String,
    root_hash: String,
}

impl Parts {
    /// Those of the image in this folder.
    pub fn of(image: &Path) -> anyhow::Result<Parts> {
        let path = image.join("manifest.json");
        let text = fs::read_to_string(&path).with_context(|| format!("{} (make image)", path.display()))?;
        let ImageManifest { image: facts, kernel_release, root_hash } =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let kubernetes = facts.kubernetes.trim_start_matches('v');
        let header = Header {
            version: facts.version.parse()?,
            profile: facts.profile,
            architecture: facts.architecture,
            minimum_version: Version::new(0, 0, 0),
            kubernetes: if kubernetes.is_empty() { None } else { Some(kubernetes.parse()?) },
            kernel_release,
            built_at: facts.built_at,
            config_versions: Vec::new(),
            expires_at: None,
            release_notes: String::new(),
            root_hash: root_hash.parse()?,
            slot_bytes: Slot::A.root().size_bytes(),
        };
        Ok(Parts { root: image.join(ROOT), verity: image.join(VERITY), uki: image.join(UKI), header })
    }

    /// Says this version, whatever the image calls itself.
    pub fn version(mut self, version: &str) -> anyhow::Result<Parts> {
        self.header.version = version.parse()?;
        Ok(self)
    }

    /// The root with one byte of another value. Digests are taken of what is there, so that only the hash tree can tell.
    pub fn with_flipped_byte(mut self, offset: u64, folder: &Path) -> anyhow::Result<Parts> {
        let path = copy(&self.root, folder)?;
        let file = File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).with_context(|| format!("{}: no byte {offset}", path.display()))?;
        file.write_all_at(&[byte[0] ^ 0xff], offset)?;
        self.root = path;
        Ok(self)
    }

    /// The root with another first byte of one of its files: what lies before and behind reads as ever.
    pub fn with_flipped_file(self, path: &str, folder: &Path) -> anyhow::Result<Parts> {
        let offset = self.place_of(path)?;
        self.with_flipped_byte(offset, folder)
    }

    /// Where a file's first bytes lie in the root, as dump.erofs tells: `ext: logical | length : physical | length`.
    pub fn place_of(&self, path: &str) -> anyhow::Result<u64> {
        let printed = program::printed(Command::new("dump.erofs").arg(format!("--path={path}")).arg("-e").arg(&self.root))?;
        let extent = printed.lines().find(|line| line.trim_start().starts_with("0:")).with_context(|| format!("no extent in {printed}"))?;
        let physical = extent.rsplit_once(':').map(|(_, physical)| physical).unwrap_or_default();
        let offset = physical.split("..").next().unwrap_or_default().trim();
        offset.parse().with_context(|| format!("no offset in {extent:?}"))
    }

    /// The root with so many bytes behind it that no machine has: something to send. What boots is the same.
    pub fn with_new_bytes(mut self, count: u64, folder: &Path) -> anyhow::Result<Parts> {
        let path = copy(&self.root, folder)?;
        let mut file = File::options().append(true).open(&path)?;
        let copied = std::io::copy(&mut File::open("/dev/urandom")?.take(count), &mut file)?;
        ensure!(copied == count, "{copied} random bytes; expected {count}");
        self.root = path;
        Ok(self)
    }

    /// A root without a file in it, with a hash tree that is valid and sealed in the UKI.
    pub fn with_empty_root(mut self, folder: &Path) -> anyhow::Result<Parts> {
        let (content, root, verity) = (tempfile::tempdir()?, folder.join(ROOT), folder.join(VERITY));
        program::printed(Command::new("mkfs.erofs").arg("--quiet").arg(&root).arg(content.path()))?;
        let mut format = Command::new("veritysetup");
        format.args(["format", "--data-block-size", "4096", "--hash-block-size", "4096"]).arg(&root).arg(&verity);
        let path = std::env::var("PATH").unwrap_or_default();
        let printed = program::printed(format.env("PATH", format!("{path}:/usr/sbin:/sbin")))?;
        let hash = printed.lines().find_map(|line| line.strip_prefix("Root hash:")).context("veritysetup printed no root hash")?.trim();
        let sealed = self.header.root_hash.to_string();
        self = self.with_sealed_word(&sealed, hash, folder)?;
        self.header.root_hash = hash.parse()?;
        (self.root, self.verity) = (root, verity);
        Ok(self)
    }

    /// Another image's root, sealed in this one's UKI: stage 1 is of the one, and all that comes after it of the other.
    pub fn with_root_of(self, other: &Parts, folder: &Path) -> anyhow::Result<Parts> {
        let (sealed, hash) = (self.header.root_hash.to_string(), other.header.root_hash.to_string());
        let mut parts = self.with_sealed_word(&sealed, &hash, folder)?;
        parts.header.root_hash = other.header.root_hash;
        (parts.root, parts.verity) = (other.root.clone(), other.verity.clone());
        Ok(parts)
    }

    /// The UKI's first bytes only: what the firmware cannot load.
    pub fn with_short_uki(mut self, bytes: u64, folder: &Path) -> anyhow::Result<Parts> {
        let path = copy(&self.uki, folder)?;
        let file = File::options().write(true).open(&path)?;
        ensure!(bytes < file.metadata()?.len(), "{} is no longer than {bytes} bytes", self.uki.display());
        file.set_len(bytes)?;
        self.uki = path;
        Ok(self)
    }

    /// A kernel that finds no first program and panics.
    pub fn with_panicking_kernel(self, folder: &Path) -> anyhow::Result<Parts> {
        self.with_sealed_word("console=tty0", "rdinit=/none", folder)
    }

    /// The UKI with a word of its kernel's command line replaced by one of the same length. A signature of Secure Boot breaks by it.
    pub fn with_sealed_word(mut self, old: &str, new: &str, folder: &Path) -> anyhow::Result<Parts> {
        ensure!(old.len() == new.len(), "{old:?} and {new:?} differ in length");
        let mut bytes = fs::read(&self.uki).with_context(|| self.uki.display().to_string())?;
        let places: Vec<usize> =
            bytes.windows(old.len()).enumerate().filter(|(_, part)| *part == old.as_bytes()).map(|(at, _)| at).collect();
        let [place] = places[..] else { anyhow::bail!("{old:?} stands {} times in {}", places.len(), self.uki.display()) };
        bytes[place..place + new.len()].copy_from_slice(new.as_bytes());
        self.uki = folder.join(UKI);
        fs::write(&self.uki, bytes)?;
        Ok(self)
    }

    /// Writes the update file.
    pub fn write(&self, keys: &[SigningKey], out: &Path) -> anyhow::Result<()> {
        let parts = [(PartName::Root, self.root.as_path()), (PartName::Verity, self.verity.as_path()), (PartName::Uki, self.uki.as_path())];
        update::write(File::create(out)?, self.header.clone(), &parts, keys, LEVEL, |_| {})?;
        Ok(())
    }
}

fn copy(file: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join(file.file_name().context("a file's name")?);
    ensure!(path != *file, "{} would be changed itself", file.display());
    fs::copy(file, &path).with_context(|| file.display().to_string())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use update::UpdateFile;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A folder with what these methods read of an image.
    fn image() -> TempDir {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        fs::write(at(ROOT), vec![7; 512 << 10]).expect("root");
        fs::write(at(VERITY), vec![8; 16 << 10]).expect("verity");
        fs::write(at(UKI), format!("MZ....console=tty0 console=ttyS0,115200 quiet corten.roothash={HASH}\0....")).expect("uki");
        let facts = ImageFacts {
            version: "0.2.0".to_owned(),
            profile: "bare".to_owned(),
            architecture: "x86_64".to_owned(),
            kubernetes: String::new(),
            etcd: String::new(),
            built_at: 1_700_000_000,
            partitions: Vec::new(),
        };
        let manifest = serde_json::json!({ "image": facts, "kernelRelease": "6.12.1", "rootHash": HASH, "files": [] });
        fs::write(at("manifest.json"), manifest.to_string()).expect("manifest");
        folder
    }

    fn written(parts: &Parts) -> UpdateFile {
        let folder = tempfile::tempdir().expect("a directory");
        let (key, path) = (SigningKey::from_seed(&[5; 32]).expect("a key"), folder.path().join("a.update"));
        parts.write(&[key], &path).expect("an update file");
        UpdateFile::open(&path).expect("it reads")
    }

    #[test]
    fn an_update_says_what_the_image_says_and_the_version_that_is_asked_for() {
        let image = image();
        let parts = Parts::of(image.path()).expect("parts").version("9.0.0").expect("a version");
        let file = written(&parts);
        let manifest = file.manifest().peek();
        assert_eq!((manifest.version.to_string().as_str(), manifest.profile.as_str()), ("9.0.0", "bare"));
        assert_eq!(manifest.root_hash.to_string(), HASH);
        assert_eq!(manifest.part(PartName::Root).expect("a root").size_bytes, 512 << 10);
    }

    #[test]
    fn a_fault_is_in_a_copy_and_in_one_part_only() {
        let (image, folder) = (image(), tempfile::tempdir().expect("a directory"));
        let parts = Parts::of(image.path()).expect("parts");
        let sound = written(&parts);
        let flipped = written(&parts.clone().with_flipped_byte(300_000, folder.path()).expect("a copy"));
        let short = written(&parts.clone().with_short_uki(20, folder.path()).expect("a copy"));
        let digest = |file: &UpdateFile, name| file.manifest().peek().part(name).expect("the part").sha256;
        for (file, changed) in [(&flipped, PartName::Root), (&short, PartName::Uki)] {
            for name in PartName::ALL {
                assert_eq!(digest(file, name) == digest(&sound, name), name != changed, "{name:?}");
            }
        }
        assert_eq!(digest(&written(&parts), PartName::Root), digest(&sound, PartName::Root), "the image itself changed");
        assert!(parts.clone().with_flipped_byte(1 << 30, folder.path()).is_err());
        let longer = written(&parts.with_new_bytes(100_000, folder.path()).expect("a copy"));
        assert_eq!(longer.manifest().peek().part(PartName::Root).expect("a root").size_bytes, (512 << 10) + 100_000);
    }

    #[test]
    fn an_empty_root_is_sealed_in_its_uki() {
        let (image, folder) = (image(), tempfile::tempdir().expect("a directory"));
        let parts = Parts::of(image.path()).expect("parts").with_empty_root(folder.path()).expect("erofs and veritysetup");
        let hash = parts.header.root_hash.to_string();
        assert_ne!(hash, HASH);
        assert!(String::from_utf8_lossy(&fs::read(&parts.uki).expect("the UKI")).contains(&format!("corten.roothash={hash}")));
        let mut verify = Command::new("/usr/sbin/veritysetup");
        program::printed(verify.arg("verify").args([&parts.root, &parts.verity]).arg(&hash)).expect("a valid tree");
        assert_eq!(written(&parts).manifest().peek().root_hash.to_string(), hash);
    }

    #[test]
    fn a_root_of_another_image_is_sealed_in_the_uki_of_this_one() {
        let (one, other, folder) = (image(), image(), tempfile::tempdir().expect("a directory"));
        let mut other = Parts::of(other.path()).expect("parts");
        other.header.root_hash = "cd".repeat(32).parse().expect("a digest");
        let parts = Parts::of(one.path()).expect("parts").with_root_of(&other, folder.path()).expect("parts of two");
        assert_eq!((&parts.root, parts.header.root_hash), (&other.root, other.header.root_hash));
        let uki = String::from_utf8_lossy(&fs::read(&parts.uki).expect("the UKI")).into_owned();
        assert!(uki.contains(&format!("corten.roothash={}", "cd".repeat(32))) && !uki.contains(HASH), "{uki}");
    }

    #[test]
    fn a_word_that_is_not_sealed_or_longer_cannot_be_replaced() {
        let (image, folder) = (image(), tempfile::tempdir().expect("a directory"));
        let parts = Parts::of(image.path()).expect("parts");
        let panicking = parts.clone().with_panicking_kernel(folder.path()).expect("a UKI");
        let uki = String::from_utf8_lossy(&fs::read(&panicking.uki).expect("the UKI")).into_owned();
        assert!(uki.contains("MZ....rdinit=/none console=ttyS0,115200"), "{uki}");
        let error = panicking.with_panicking_kernel(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("\"console=tty0\" stands 0 times in "), "{error}");
        assert!(parts.with_sealed_word("quiet", "debug7", folder.path()).is_err());
    }
}
