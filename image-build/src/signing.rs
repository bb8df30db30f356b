//! Secure Boot: signs what the firmware starts, systemd-boot and the UKI, so that machines which trust the key start nothing else. The key is
//! a file, or lies in a device or service (KMS) that only a command of the user's reaches.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use object::{LittleEndian, pe};

use crate::keys;
use crate::tools::{self, SBSIGN, SBVERIFY, SH, Tool};

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub with: With,
    /// What the signature is checked against, and what the firmware has to trust.
    pub certificate: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum With {
    /// A private key (PEM).
    Key(PathBuf),
    /// A command of the shell; it gets two more arguments, the file to sign and the file to write.
    Command(String),
}

impl Signer {
    pub fn tools(&self) -> Vec<Tool> {
        match self.with {
            With::Key(_) => vec![SBSIGN, SBVERIFY],
            With::Command(_) => vec![SH, SBVERIFY],
        }
    }

    /// The program with a signature. `scratch` is a folder for files that are only needed meanwhile.
    pub fn sign(&self, what: &str, program: &[u8], scratch: &Path) -> Result<Vec<u8>> {
        self.sign_in(program, scratch).with_context(|| format!("signing {what} for Secure Boot"))
    }

    fn sign_in(&self, program: &[u8], scratch: &Path) -> Result<Vec<u8>> {
        let folder = tempfile::Builder::new().prefix("signing-").tempdir_in(scratch).context("making a folder for it")?;
        let [plain, signed] = ["plain.efi", "signed.efi"].map(|name| folder.path().join(name));
        fs::write(&plain, program).with_context(|| format!("writing {}", plain.display()))?;
        let mut command = match &self.with {
            With::Key(key) => {
                let mut command = SBSIGN.command()?;
                command.arg("--key").arg(key).arg("--cert").arg(&self.certificate).arg("--output").arg(&signed).arg(&plain);
                command
            }
            With::Command(text) => {
                let mut command = SH.command()?;
                command.args(["-c", &format!("{text} \"$@\""), "sign"]).arg(&plain).arg(&signed);
                command
            }
        };
        tools::run(&mut command)?;
        let bytes = fs::read(&signed).context("no signed file was written")?;
        ensure!(is_signed(&bytes)? && unsigned_parts_agree(program, &bytes)?, "what was written is not the program with a signature added");
        let mut verify = SBVERIFY.command()?;
        tools::run(verify.arg("--cert").arg(&self.certificate).arg(&signed))
            .with_context(|| format!("the signature does not belong to {}", self.certificate.display()))?;
        Ok(bytes)
    }
}

/// Whether there is an attribute certificate table (PE format, "The attribute certificate table").
fn is_signed(program: &[u8]) -> Result<bool> {
    let file = PeFile64::parse(program).context("no PE file")?;
    let directory = file.data_directory(pe::IMAGE_DIRECTORY_ENTRY_SECURITY);
    Ok(directory.is_some_and(|directory| directory.size.get(LittleEndian) > 0))
}

/// Whether the two agree behind the headers, in which a signing tool changes checksum and table: so that a command cannot, by mistake, hand
/// back another program.
fn unsigned_parts_agree(plain: &[u8], signed: &[u8]) -> Result<bool> {
    let headers = PeFile64::parse(plain).context("no PE file")?.nt_headers().optional_header().size_of_headers();
    let at = usize::try_from(headers)?;
    let (Some(plain), Some(signed)) = (plain.get(at..), signed.get(at..)) else { bail!("cut short") };
    Ok(signed.starts_with(plain))
}

/// The signed variables of a folder that `image-build keys new --secure-boot` made, as name and content.
pub fn enrolled(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).with_context(|| format!("reading {}; `image-build keys new --secure-boot` makes it", path.display()))
    };
    keys::ENROLLED.iter().map(|name| Ok(((*name).to_owned(), read(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uki::tests::stub;

    fn refusal(command: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let signer = Signer { with: With::Command(command.to_owned()), certificate: "/nonexistent.crt".into() };
        let error = format!("{:#}", signer.sign("the UKI", &stub(8), directory.path()).unwrap_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "files are left behind");
        error
    }

    #[test]
    fn a_command_has_to_add_a_signature_and_nothing_else() {
        for (command, expected) in [
            ("f() { echo no such key in the vault >&2; false; }; f", "no such key in the vault"),
            ("true", "no signed file was written"),
            ("cp", "not the program with a signature added"),
            ("f() { head -c 700 /dev/zero > \"$2\"; }; f", "no PE file"),
        ] {
            let error = refusal(command);
            assert!(error.starts_with("signing the UKI for Secure Boot: ") && error.contains(expected), "{command}: {error}");
        }
    }

    #[test]
    fn another_program_is_told_from_a_signed_one() {
        let plain = stub(8);
        let mut signed = [plain.as_slice(), &[1; 64]].concat();
        assert!(unsigned_parts_agree(&plain, &signed).unwrap());
        let last = plain.len() - 1;
        signed[last] ^= 1;
        assert!(!unsigned_parts_agree(&plain, &signed).unwrap());
        assert!(!is_signed(&plain).unwrap());
    }

    #[test]
    fn what_is_to_be_enrolled_has_to_be_there() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("PK.auth"), "x").unwrap();
        let error = format!("{:#}", enrolled(directory.path()).unwrap_err());
        assert!(error.contains("KEK.auth") && error.contains("keys new --secure-boot"), "{error}");
    }
}
