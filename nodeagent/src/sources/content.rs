//! What a source holds, as a machine config: unpacked, bounded, and told from what is meant for other systems.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use machine::config;

use crate::config::MAX_DOCUMENT_BYTES;

/// RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a content is no machine config, before anybody reads it as one.
#[derive(Debug, thiserror::Error)]
pub enum BadContent {
    #[error("more than {MAX_DOCUMENT_BYTES} bytes; expected at most that many")]
    TooLarge,
    #[error("more than {MAX_DOCUMENT_BYTES} bytes once unpacked; expected at most that many")]
    TooLargeUnpacked,
    #[error("begins as gzip and cannot be unpacked; write it anew")]
    Gzip(#[source] io::Error),
    #[error(
        "begins with #cloud-config, which is for cloud-init; expected a machine config (apiVersion: corten.dev/v1): write one by machinectl gen config"
    )]
    CloudConfig,
    #[error("begins with #!, a script; expected a machine config (apiVersion: corten.dev/v1): write one by machinectl gen config")]
    Script,
}

/// The machine config as it stands there; `None` where nothing stands there.
pub fn document(content: Vec<u8>) -> Result<Option<Vec<u8>>, BadContent> {
    if content.len() > MAX_DOCUMENT_BYTES {
        return Err(BadContent::TooLarge);
    }
    let text = if content.starts_with(&GZIP_MAGIC) { unpacked(&content)? } else { content };
    let begin = text.trim_ascii_start();
    if begin.is_empty() {
        return Ok(None);
    }
    if begin.starts_with(b"#cloud-config") {
        return Err(BadContent::CloudConfig);
    }
    if begin.starts_with(b"#!") {
        return Err(BadContent::Script);
    }
    Ok(Some(text))
}

fn unpacked(content: &[u8]) -> Result<Vec<u8>, BadContent> {
    let mut text = Vec::new();
    let limit = MAX_DOCUMENT_BYTES as u64 + 1;
    MultiGzDecoder::new(content).take(limit).read_to_end(&mut text).map_err(BadContent::Gzip)?;
    if text.len() > MAX_DOCUMENT_BYTES { Err(BadContent::TooLargeUnpacked) } else { Ok(text) }
}

/// The config with this hostname, if it has none of its own and the name can be a machine's; else as it was, so that errors tell the lines
/// that its author wrote.
pub fn named(document: Vec<u8>, hostname: &str) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&document) else { return document };
    let nameless = config::load(text, "user-data").is_ok_and(|config| config.machine.hostname.is_none());
    if !nameless || !config::is_dns_subdomain(hostname) || hostname.len() > 63 {
        return document;
    }
    match config::patch(text, "user-data", &format!("machine: {{ hostname: \"{hostname}\" }}"), "meta-data") {
        Ok(named) => named.into_bytes(),
        Err(_) => document,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::server::testing;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_unpacked_and_nothing_is_nothing() {
        assert_eq!(document(b"a: 1\n".to_vec()).unwrap().unwrap(), b"a: 1\n");
        assert_eq!(document(gzip(b"a: 1\n")).unwrap().unwrap(), b"a: 1\n");
        let members = [gzip(b"a: 1\n"), gzip(b"b: 2\n")].concat();
        assert_eq!(document(members).unwrap().unwrap(), b"a: 1\nb: 2\n");
        for nothing in [Vec::new(), b" \n".to_vec(), gzip(b"\n")] {
            assert_eq!(document(nothing).unwrap(), None);
        }
    }

    #[test]
    fn sizes_are_bounded_packed_and_unpacked() {
        let largest = vec![b'a'; MAX_DOCUMENT_BYTES];
        assert!(document(largest.clone()).unwrap().is_some());
        assert!(document(gzip(&largest)).unwrap().is_some());
        assert!(matches!(document(vec![b'a'; MAX_DOCUMENT_BYTES + 1]), Err(BadContent::TooLarge)));
        let bomb = gzip(&vec![b'a'; 64 * MAX_DOCUMENT_BYTES]);
        assert!(bomb.len() < MAX_DOCUMENT_BYTES, "{}", bomb.len());
        assert!(matches!(document(bomb), Err(BadContent::TooLargeUnpacked)));
    }

    #[test]
    fn what_is_cut_short_or_meant_for_others_is_named() {
        let mut short = gzip(b"apiVersion: corten.dev/v1");
        short.truncate(short.len() - 9);
        assert!(matches!(document(short), Err(BadContent::Gzip(_))));
        assert!(matches!(document(b"\n#cloud-config\nusers: []\n".to_vec()), Err(BadContent::CloudConfig)));
        assert!(matches!(document(gzip(b"#!/bin/sh\n")), Err(BadContent::Script)));
        assert!(document(b"# a comment\na: 1\n".to_vec()).unwrap().is_some());
    }

    #[test]
    fn a_name_is_given_to_a_config_without_one() {
        let nameless = testing::config();
        let config = |text: Vec<u8>| config::load(str::from_utf8(&text).unwrap(), "test").unwrap();
        assert_eq!(config(nameless.clone().into_bytes()).machine.hostname, None);
        let named = named(nameless.clone().into_bytes(), "node-7");
        assert_eq!(config(named.clone()).machine.hostname.as_deref(), Some("node-7"));
        assert_eq!(super::named(named.clone(), "node-8"), named, "its own name stays");
        for bad in ["", "Node 7", "a: b", &"a".repeat(64)] {
            assert_eq!(super::named(nameless.clone().into_bytes(), bad), nameless.as_bytes(), "{bad:?}");
        }
        let broken = b"machine: { hostnam: x }".to_vec();
        assert_eq!(super::named(broken.clone(), "node-7"), broken, "errors tell the author's own lines");
    }
}
