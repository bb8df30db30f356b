//! What a UKI leaves in the TPM: the stub extends register 11 by each section that it starts from (systemd-stub(7), and the order of
//! `UnifiedSection` in systemd's src/fundamental/uki.h: section by section, first the name with its NUL, then the content).

use anyhow::Context;
use object::{Object, ObjectSection};
use sha2::{Digest, Sha256};

/// Up to systemd 257. A signature over the expected register, `.pcrsig`, cannot be in it.
const ORDER: [&str; 13] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey", ".profile", ".dtbauto", ".hwids",
];

/// Register 11 of the bank SHA-256 after the stub handed over, lower-case hexadecimal digits.
pub fn register_11(uki: &[u8]) -> anyhow::Result<String> {
    let file = object::File::parse(uki).context("no PE file")?;
    let mut register = [0; 32];
    for name in ORDER {
        if let Some(section) = file.section_by_name(name) {
            // As long as it is in memory: what the file is padded with does not count.
            let content = section.data().with_context(|| format!("section {name}"))?;
            let content = content.get(..usize::try_from(section.size())?).with_context(|| format!("section {name} is cut short"))?;
            extend(&mut register, format!("{name}\0").as_bytes());
            extend(&mut register, content);
        }
    }
    Ok(hex::encode(register))
}

/// TPM 2.0 part 1, 17.2: the digest of the register before and the digest of what is measured.
fn extend(register: &mut [u8; 32], measured: &[u8]) {
    *register = Sha256::new().chain_update(*register).chain_update(Sha256::digest(measured)).finalize().into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_extended_as_the_standard_says() {
        let mut register = [0; 32];
        extend(&mut register, b"");
        // (head -c 32 /dev/zero; printf "" | openssl dgst -sha256 -binary) | sha256sum
        assert_eq!(hex::encode(register), "1c9ecec90e28d2461650418635878a5c91e49f47586ecf75f2b0cbb94e897112");
        assert!(register_11(b"MZ").is_err());
    }
}
