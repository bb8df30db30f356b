//! PEM and DER, as far as one can tell a certificate from something else without cryptography. Whether certificates are valid is for the
//! agent to find out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Check;
use crate::config::report::Path;

/// One `-----BEGIN x-----` block.
pub struct Block {
    pub label: String,
    pub der: Vec<u8>,
}

/// The blocks of a text, or what is wrong with it.
pub fn blocks(text: &str) -> Result<Vec<Block>, &'static str> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            return Err("text outside of a PEM block");
        };
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        loop {
            match lines.next() {
                Some(line) if line == end => break,
                Some(line) => body.push_str(line),
                None => return Err("a PEM block without its END line"),
            }
        }
        let der = STANDARD.decode(&body).map_err(|_| "a PEM block whose content is no base64")?;
        if !is_sequence(&der) {
            return Err("a PEM block whose content is cut short or no DER");
        }
        blocks.push(Block { label: label.to_owned(), der });
    }
    if blocks.is_empty() { Err("no PEM block") } else { Ok(blocks) }
}

/// Adds a problem unless the text is certificates and nothing else.
pub fn certificates(path: &Path, text: &str, check: &mut Check<'_>) -> bool {
    match blocks(text) {
        Err(found) => check.add(path, found, "certificates in PEM", "copy it whole, from BEGIN to END CERTIFICATE"),
        Ok(blocks) if blocks.iter().any(|block| block.label != "CERTIFICATE") => {
            check.add(path, "other PEM blocks", "CERTIFICATE blocks alone", "");
        }
        Ok(_) => return true,
    }
    false
}

/// Whether the bytes are one DER SEQUENCE from the first to the last byte.
fn is_sequence(der: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = der else { return false };
    let (length, header) = match first {
        0x00..=0x7f => (usize::from(*first), 0),
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let Some(bytes) = rest.get(..count) else { return false };
            (bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte)), count)
        }
        _ => return false,
    };
    rest.len() == header + length
}
