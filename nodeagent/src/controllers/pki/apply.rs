//! Issues certificates and writes them to STATE.

use std::path::Path;

use anyhow::Context;
use controlplane::pki::{Authority, CertificateSpec, Issued};
use machine::account::Account;
use machine::file::File;

use super::plan::Action;
use crate::files;
use crate::node::Node;

pub fn apply(action: Action, node: &Node) -> anyhow::Result<()> {
    match action {
        Action::Issue { spec, authority, key, now, because } => {
            tracing::info!("issuing certificate {}: {because}", spec.id);
            let authority = Authority::from_pem(&authority.certificate, key.reveal()).context("cluster.certificateAuthorities")?;
            let issued = authority.issue(&spec.request, now).with_context(|| format!("issuing certificate {}", spec.id))?;
            write(&spec, &issued)?;
        }
        Action::Tell { id, certificate } => node.store.put(id.name(), &certificate),
    }
    Ok(())
}

/// A crash between the two leaves a pair that does not fit together; it counts as none, and is issued again.
pub fn write(spec: &CertificateSpec, issued: &Issued) -> anyhow::Result<()> {
    let file = |path: &Path, contents: &str| File {
        path: path.to_owned(),
        mode: 0o600,
        account: Account::Root,
        contents: contents.as_bytes().to_vec(),
    };
    files::write_if_changed(&file(&spec.key_path, issued.key_pem.reveal()))?;
    files::write_if_changed(&file(&spec.certificate_path, &issued.certificate_pem))?;
    Ok(())
}
