//! Issues certificates and writes them to STATE.

use anyhow::Context;
use controlplane::pki::Authority;
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
            // A crash between the two leaves a pair that does not fit together; it counts as none, and is issued again.
            let file = |path, mode, contents: &str| File { path, mode, account: Account::Root, contents: contents.as_bytes().to_vec() };
            files::write_if_changed(&file(spec.key_path, 0o600, issued.key_pem.reveal()))?;
            files::write_if_changed(&file(spec.certificate_path, 0o600, &issued.certificate_pem))?;
        }
        Action::Tell { id, certificate } => node.store.put(id.name(), &certificate),
    }
    Ok(())
}
