//! The kernel command line. It is sealed in the signed UKI; on an unsigned boot anybody may have written it, so nothing here panics.

use machine::protocol::Medium;

/// What init reads of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `corten.roothash=`: dm-verity root hash of the root file system, 32 bytes.
    pub root_hash: Option<[u8; 32]>,
    /// `corten.disk=`: the disk to boot from where no boot loader says so.
    pub disk: Option<String>,
    /// `corten.medium=`: what the machine was booted from, where neither the boot loader nor the initramfs says so.
    pub medium: Option<Medium>,
    /// `corten.platform=`: where the machine runs, such as `metal` or `aws`.
    pub platform: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("kernel parameter corten.roothash={0:?}: expected 64 hexadecimal digits")]
    RootHash(String),
    #[error("kernel parameter corten.disk={0:?}: expected a device such as /dev/vda")]
    Disk(String),
    #[error("kernel parameter corten.medium={0:?}: expected disk, iso or network")]
    Medium(String),
    #[error("kernel parameter corten.platform={0:?}: expected lower-case letters, digits and dashes, at most 32")]
    Platform(String),
}

/// Reads the parameters; the last of several equal names wins, as in the kernel.
pub fn parse(text: &str) -> Result<CommandLine, Error> {
    let mut line = CommandLine::default();
    for word in text.split_ascii_whitespace() {
        match word.split_once('=') {
            Some(("corten.roothash", value)) => {
                line.root_hash = Some(parse_hash(value).ok_or_else(|| Error::RootHash(value.to_owned()))?);
            }
            Some(("corten.disk", value)) => {
                let name = value.strip_prefix("/dev/").filter(|name| !name.is_empty() && !name.contains('/'));
                line.disk = Some(name.ok_or_else(|| Error::Disk(value.to_owned()))?.to_owned());
            }
            Some(("corten.medium", value)) => {
                line.medium = Some(match value {
                    "disk" => Medium::Disk,
                    "iso" => Medium::Iso,
                    "network" => Medium::Network,
                    _ => return Err(Error::Medium(value.to_owned())),
                });
            }
            Some(("corten.platform", value)) => {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                if value.is_empty() || value.len() > 32 || !value.bytes().all(plain) {
                    return Err(Error::Platform(value.to_owned()));
                }
                line.platform = Some(value.to_owned());
            }
            _ => {}
        }
    }
    Ok(line)
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(hash)
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_read_and_others_ignored() {
        let hash = "0123456789abcdef".repeat(4);
        let line = parse(&format!("console=ttyS0 corten.roothash={hash} corten.disk=/dev/vdb quiet\n")).expect("legal");
        assert_eq!(line.root_hash.map(|h| hex(&h)), Some(hash));
        assert_eq!(line.disk.as_deref(), Some("vdb"));
        assert_eq!(parse("quiet panic=10"), Ok(CommandLine::default()));
        let line = parse("corten.platform=metal corten.medium=network corten.medium=iso").expect("legal");
        assert_eq!((line.platform.as_deref(), line.medium), (Some("metal"), Some(Medium::Iso)));
    }

    #[test]
    fn wrong_values_are_named() {
        assert_eq!(parse("corten.roothash=12"), Err(Error::RootHash("12".to_owned())));
        assert_eq!(parse(&format!("corten.roothash={}", "+1".repeat(32))), Err(Error::RootHash("+1".repeat(32))));
        assert_eq!(parse("corten.disk=/dev/../etc"), Err(Error::Disk("/dev/../etc".to_owned())));
        assert_eq!(parse("corten.medium=usb"), Err(Error::Medium("usb".to_owned())));
        for platform in ["", "AWS", "a/b", &"a".repeat(33)] {
            assert_eq!(parse(&format!("corten.platform={platform}")), Err(Error::Platform(platform.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn any_command_line_is_parsed_or_refused(text in "\\PC*") {
            let _ = parse(&text);
            let _ = parse(&format!("corten.roothash={text}"));
            let _ = parse(&format!("corten.platform={text} corten.medium={text}"));
        }
    }
}
