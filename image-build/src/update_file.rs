//! The update file of an image, and the keys whose updates the image takes.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use machine::disk::Slot;
use machine::protocol::ImageFacts;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use update::{Header, PartName, PublicKey, SigningKey, TrustedKeys, Version};

use crate::progress::Progress;

/// What the command line says of updates.
#[derive(Debug, Args)]
pub struct UpdateArguments {
    /// Private key (PEM) that signs the update file; the image trusts its public half. Without one there is no update file
    #[arg(long = "update-key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// Public key (base64, such as update.pub) that the image trusts besides: the next one, or one that signs elsewhere
    #[arg(long = "trust-update-key", value_name = "FILE")]
    trusted: Vec<PathBuf>,
    /// How many of the trusted keys have to sign an update
    #[arg(long = "update-threshold", value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threshold: u32,
    /// Lowest version that machines may be updated from
    #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
    minimum_version: Version,
    /// From when on no machine takes the update: 2030-01-31, or 2030-01-31T12:00:00Z
    #[arg(long, value_name = "DATE", value_parser = date)]
    expires: Option<u64>,
    /// Text for those who install the update
    #[arg(long, value_name = "FILE")]
    release_notes: Option<PathBuf>,
    /// Level of zstd for the update file's chunks
    #[arg(long = "update-level", value_name = "LEVEL", default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
}

/// What those came to.
#[derive(Debug)]
pub struct Updates {
    keys: Vec<SigningKey>,
    /// `None`: the image trusts nobody, but whom the machine config names.
    pub trusted: Option<TrustedKeys>,
    minimum_version: Version,
    expires_at: Option<u64>,
    release_notes: String,
    level: i32,
}

/// Seconds since the epoch; a date is its first second in UTC.
fn date(text: &str) -> Result<u64, String> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map(|date| date.midnight().assume_utc());
    let time = day.or_else(|_| OffsetDateTime::parse(text, &Rfc3339)).ok();
    let seconds = time.and_then(|time| u64::try_from(time.unix_timestamp()).ok());
    seconds.ok_or_else(|| "expected a date such as 2030-01-31, or with a time as 2030-01-31T12:00:00Z".to_owned())
}

impl UpdateArguments {
    pub fn read(self) -> Result<Updates> {
        let keys: Vec<SigningKey> = self.keys.iter().map(|path| private(path)).collect::<Result<_>>()?;
        let mut trusted: Vec<PublicKey> = keys.iter().map(SigningKey::public).collect();
        for path in &self.trusted {
            trusted.push(public(path)?);
        }
        trusted.sort_unstable();
        trusted.dedup();
        let (threshold, number) = (self.threshold, trusted.len());
        ensure!(
            usize::try_from(threshold)? <= number.max(1),
            "--update-threshold {threshold}: the image would trust {number} keys: no update could ever have enough signatures"
        );
        let release_notes = match &self.release_notes {
            Some(path) => fs::read_to_string(path).with_context(|| format!("--release-notes: reading {}", path.display()))?,
            None => String::new(),
        };
        Ok(Updates {
            keys,
            trusted: (number > 0).then_some(TrustedKeys { threshold, keys: trusted }),
            minimum_version: self.minimum_version,
            expires_at: self.expires,
            release_notes,
            level: self.level,
        })
    }
}

fn private(path: &Path) -> Result<SigningKey> {
    let reading = || format!("--update-key {}", path.display());
    let text = fs::read_to_string(path).with_context(|| format!("{}; `image-build keys new` makes one", reading()))?;
    SigningKey::from_pem(&text).with_context(reading)
}

fn public(path: &Path) -> Result<PublicKey> {
    let reading = || format!("--trust-update-key {}", path.display());
    fs::read_to_string(path).with_context(reading)?.trim().parse().with_context(reading)
}

/// What the update file is called.
pub fn name(facts: &ImageFacts) -> String {
    format!("corten-{}-{}.update", facts.version, facts.profile)
}

impl Updates {
    /// Whether there will be an update file.
    pub fn signs(&self) -> bool {
        !self.keys.is_empty()
    }

    /// What makes an image that cannot be updated.
    pub fn notice(&self) -> Option<&'static str> {
        match (self.signs(), &self.trusted) {
            (true, _) => None,
            (false, Some(_)) => Some("no --update-key: no update file is written"),
            (false, None) => Some(
                "no --update-key: no update file is written, and the image takes updates only from keys that the machine config names \
                 (machine.upgrade.trustedKeys)",
            ),
        }
    }

    /// Writes the update file into the output folder, in which its parts lie, and returns its name.
    pub fn write(&self, facts: &ImageFacts, kernel_release: &str, root_hash: &str, folder: &Path, progress: &Progress) -> Result<String> {
        let name = name(facts);
        let path = folder.join(&name);
        let header = Header {
            version: facts.version.parse().with_context(|| format!("version {:?}: expected one such as 1.2.3", facts.version))?,
            profile: facts.profile.clone(),
            architecture: facts.architecture.clone(),
            minimum_version: self.minimum_version.clone(),
            kubernetes: kubernetes(&facts.kubernetes)?,
            config_versions: machine::config::VERSIONS.iter().map(|version| (*version).to_owned()).collect(),
            kernel_release: kernel_release.to_owned(),
            built_at: facts.built_at,
            expires_at: self.expires_at,
            release_notes: self.release_notes.clone(),
            root_hash: root_hash.parse().context("root hash")?,
            slot_bytes: Slot::A.root().size_bytes(),
        };
        let [root, verity, uki] = ["root.erofs", "root.verity", "uki.efi"].map(|name| folder.join(name));
        let parts = [(PartName::Root, root.as_path()), (PartName::Verity, verity.as_path()), (PartName::Uki, uki.as_path())];
        let file = File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
        let mut quarter = 0;
        update::write(BufWriter::new(file), header, &parts, &self.keys, self.level, |seen| {
            let quarters = seen.done_bytes * 4 / seen.total_bytes.max(1);
            if quarters > quarter && quarters < 4 {
                quarter = quarters;
                progress.phase(&format!("update file: {} of {} MiB", seen.done_bytes >> 20, seen.total_bytes >> 20));
            }
        })
        .with_context(|| format!("making {}", path.display()))?;
        Ok(name)
    }
}

/// Of an image with Kubernetes; its components call it `v1.2.3`.
fn kubernetes(text: &str) -> Result<Option<Version>> {
    if text.is_empty() {
        return Ok(None);
    }
    let version = text.strip_prefix('v').unwrap_or(text);
    Ok(Some(version.parse().with_context(|| format!("Kubernetes version {text:?}: expected one such as v1.2.3"))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        updates: UpdateArguments,
    }

    fn read(arguments: &[&str]) -> Result<Updates> {
        Line::try_parse_from([&["test"], arguments].concat())?.updates.read()
    }

    #[test]
    fn dates_are_read_in_both_forms_and_others_refused() {
        assert_eq!(date("2030-01-31"), Ok(1_896_048_000));
        assert_eq!(date("2030-01-31T01:00:00+01:00"), Ok(1_896_048_000));
        for wrong in ["31.01.2030", "2030-13-01", "1969-01-01", ""] {
            assert!(date(wrong).unwrap_err().contains("2030-01-31"), "{wrong}");
        }
    }

    #[test]
    fn an_image_trusts_the_keys_that_sign_and_the_further_ones_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = [[1; 32], [2; 32]].map(|seed| SigningKey::from_seed(&seed).unwrap());
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("a.key"), first.to_pem()).unwrap();
        fs::write(path("a.pub"), format!("{}\n", first.public())).unwrap();
        fs::write(path("b.pub"), second.public().to_string()).unwrap();
        let more = ["--update-key", &path("a.key"), "--trust-update-key", &path("a.pub"), "--trust-update-key", &path("b.pub")];
        let updates = read(&more).unwrap();
        let mut expected = vec![first.public(), second.public()];
        expected.sort_unstable();
        assert_eq!(updates.trusted, Some(TrustedKeys { threshold: 1, keys: expected }));
        assert!(updates.signs() && updates.notice().is_none());

        let error = read(&[&more[..], &["--update-threshold", "3"]].concat()).unwrap_err().to_string();
        assert!(error.contains("--update-threshold 3") && error.contains("would trust 2 keys"), "{error}");
        let error = format!("{:#}", read(&["--update-key", &path("b.pub")]).unwrap_err());
        assert!(error.contains("b.pub: no Ed25519 private key"), "{error}");
    }

    #[test]
    fn without_a_key_it_is_said() {
        let updates = read(&[]).unwrap();
        assert_eq!((updates.signs(), &updates.trusted), (false, &None));
        assert!(updates.notice().unwrap().contains("machine.upgrade.trustedKeys"));
    }

    #[test]
    fn kubernetes_versions_are_those_of_the_components() {
        assert_eq!(kubernetes("v1.37.1").unwrap(), Some(Version::new(1, 37, 1)));
        assert_eq!(kubernetes("").unwrap(), None);
        assert!(kubernetes("latest").unwrap_err().to_string().contains("\"latest\""));
    }
}
