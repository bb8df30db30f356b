//! The keys of Secure Boot (UEFI 2.10, chapter 32): the platform key allows changes of KEK, KEK those of db, and what db signs may boot.
//! RSA-2048 with SHA-256, which every firmware knows. They are made by openssl, because `ring` makes no RSA keys; the signed variables,
//! which systemd-boot enrols from `loader/keys/auto`, by efitools.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest;
use crate::tools::{self, CERT_TO_EFI_SIG_LIST, OPENSSL, SIGN_EFI_SIG_LIST};

/// Files that enrol the keys, as systemd-boot(7) names them.
pub const ENROLLED: [&str; 3] = ["PK.auth", "KEK.auth", "db.auth"];

/// Each variable, and the one whose key signs its content.
const VARIABLES: [(&str, &str); 3] = [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")];

/// Firmware looks at no dates; other tools do.
const DAYS: &str = "7300";

/// Fills a new folder: key, certificate and signed variable of each. `also_trust` are certificates that go into db as well.
pub fn make(folder: &Path, also_trust: &[PathBuf]) -> Result<()> {
    tools::check(&[OPENSSL, CERT_TO_EFI_SIG_LIST, SIGN_EFI_SIG_LIST])?;
    fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).with_context(|| format!("opening {} to all", folder.display()))?;
    for (name, _) in VARIABLES {
        key_pair(folder, name)?;
    }
    // Whose signatures these are; the firmware keeps it beside each.
    let owner = owner(folder)?;
    for (name, signer) in VARIABLES {
        let list = folder.join(format!("{name}.esl"));
        let mut trusted = signature_list(&folder.join(format!("{name}.crt")), &owner, folder)?;
        if name == "db" {
            for certificate in also_trust {
                let more = signature_list(certificate, &owner, folder);
                trusted.extend(more.with_context(|| format!("--also-trust {}: expected a certificate (PEM)", certificate.display()))?);
            }
        }
        fs::write(&list, trusted).with_context(|| format!("writing {}", list.display()))?;
        let mut command = SIGN_EFI_SIG_LIST.command()?;
        command.args(["-g", &owner, "-k"]).arg(folder.join(format!("{signer}.key")));
        command.arg("-c").arg(folder.join(format!("{signer}.crt"))).arg(name).arg(&list).arg(folder.join(format!("{name}.auth")));
        tools::run(&mut command).with_context(|| format!("signing variable {name}"))?;
        fs::remove_file(&list).with_context(|| format!("removing {}", list.display()))?;
    }
    settle(folder)
}

/// A new key and a certificate that it signs itself.
fn key_pair(folder: &Path, name: &str) -> Result<()> {
    let configuration = folder.join("openssl.cnf");
    // Written out, so that the host's own defaults do not matter.
    let text = format!(
        "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n[name]\nCN = Corten Secure Boot {name}\n\
         [extensions]\nbasicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash\n"
    );
    fs::write(&configuration, text).with_context(|| format!("writing {}", configuration.display()))?;
    let key = folder.join(format!("{name}.key"));
    let mut command = OPENSSL.command()?;
    command.args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-sha256", "-noenc", "-days", DAYS, "-config"]).arg(&configuration);
    command.arg("-keyout").arg(&key).arg("-out").arg(folder.join(format!("{name}.crt")));
    tools::run(&mut command).with_context(|| format!("making key {name}"))?;
    fs::remove_file(&configuration).with_context(|| format!("removing {}", configuration.display()))
}

/// A GUID that is as unique as the platform key.
fn owner(folder: &Path) -> Result<String> {
    let certificate = folder.join("PK.crt");
    let seed = digest::file(&certificate)?;
    Ok(digest::uuid_text(digest::uuid("secure boot owner", &seed)))
}

/// `EFI_SIGNATURE_LIST` with one certificate.
fn signature_list(certificate: &Path, owner: &str, scratch: &Path) -> Result<Vec<u8>> {
    let list = scratch.join("one.esl");
    CERT_TO_EFI_SIG_LIST.run([Path::new("-g"), Path::new(owner), certificate, &list])?;
    let bytes = fs::read(&list).with_context(|| format!("reading {}", list.display()))?;
    fs::remove_file(&list).with_context(|| format!("removing {}", list.display()))?;
    Ok(bytes)
}

/// Keys for their owner only, the rest for all, and everything on the disk.
fn settle(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mode = if path.extension().is_some_and(|extension| extension == "key") { 0o600 } else { 0o644 };
        let settling = || format!("settling {}", path.display());
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(settling)?;
        File::open(&path).and_then(|file| file.sync_all()).with_context(settling)?;
    }
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("syncing {}", folder.display()))
}
