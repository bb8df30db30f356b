//! Whom the machine trusts as servers that are none of its cluster's.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, ensure};
use machine::Root;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Trusts these authorities (PEM), or those that come with the image.
pub fn authorities(root: &Root, named: Option<&str>) -> anyhow::Result<Arc<ClientConfig>> {
    let (bundle, place) = match named {
        Some(pem) => (pem.as_bytes().to_vec(), "the config".to_owned()),
        None => {
            let path = root.ca_certificates();
            let doing = || format!("reading the image's certificate authorities {}", path.display());
            (fs::read(&path).with_context(doing)?, path.display().to_string())
        }
    };
    let mut roots = RootCertStore::empty();
    let (good, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok));
    ensure!(good > 0, "{place} holds no certificate authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
