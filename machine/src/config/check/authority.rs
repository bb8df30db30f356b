//! Certificates, keys and tokens: which ones a machine of its role needs, which ones it must not hold, and their form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Check, pem};
use crate::config::report::Path;
use crate::config::{CertificateAuthorities, CertificateAuthority, Cluster, Config, Role, Secret};

const PATH: &str = "cluster.certificateAuthorities";

pub fn check(config: &Config, check: &mut Check<'_>) {
    let cluster = &config.cluster;
    let authorities = cluster.certificate_authorities.named();
    for (name, authority) in &authorities {
        let path = Path::of(PATH).key(name);
        certificates(&path.key("certificate"), &authority.certificate, check);
        if let Some(key) = &authority.key {
            private_key(&path.key("key"), key, check);
        }
    }
    apart(&authorities, check);
    if let Some(key) = &cluster.service_account_key {
        private_key(&Path::of("cluster.serviceAccountKey"), key, check);
    }
    if let Some(key) = &cluster.encryption_key
        && STANDARD.decode(key.reveal().trim_end()).map_or(true, |bytes| bytes.len() != 32)
    {
        let remedy = "make one with: head -c 32 /dev/urandom | base64";
        check.add(&Path::of("cluster.encryptionKey"), "text that is none", "32 bytes in base64", remedy);
    }
    if let Some(token) = &cluster.join_token
        && !is_token(token.reveal())
    {
        let expected = "6 lower-case letters or digits, a dot, and 16 more";
        check.add(
            &Path::of("cluster.joinToken"),
            "text that is none",
            expected,
            "take the one from the configs that machinectl gen config wrote",
        );
    }
    match config.machine.role {
        Role::ControlPlane => control_plane(cluster, &authorities, check),
        Role::Worker => worker(cluster, &authorities, check),
    }
}

/// A control plane either founds the cluster, with all authorities' keys, or joins it, with an address and a token.
fn control_plane(cluster: &Cluster, authorities: &[(&str, &CertificateAuthority)], check: &mut Check<'_>) {
    let needed = "a control plane needs it: take it from the config that machinectl gen config wrote for control planes";
    if cluster.service_account_key.is_none() {
        check.add(&Path::of("cluster.serviceAccountKey"), "missing field", "a private key in PEM (PKCS#8)", needed);
    }
    if cluster.encryption_key.is_none() {
        check.add(&Path::of("cluster.encryptionKey"), "missing field", "32 bytes in base64", needed);
    }
    let without: Vec<&str> = authorities.iter().filter(|(_, authority)| authority.key.is_none()).map(|(name, _)| *name).collect();
    if without.len() == authorities.len() {
        joins(cluster, "a control plane without the authorities' keys joins through another one", check);
    } else {
        for name in without {
            let remedy = "give the first control plane all six keys, and further ones none";
            check.add(&Path::of(PATH).key(name).key("key"), "missing field", "a key, as its neighbours have", remedy);
        }
    }
}

fn worker(cluster: &Cluster, authorities: &[(&str, &CertificateAuthority)], check: &mut Check<'_>) {
    joins(cluster, "a worker joins through a control plane", check);
    let mut forbidden: Vec<Path> =
        authorities.iter().filter(|(_, authority)| authority.key.is_some()).map(|(name, _)| Path::of(PATH).key(name).key("key")).collect();
    for (name, key) in [("serviceAccountKey", &cluster.service_account_key), ("encryptionKey", &cluster.encryption_key)] {
        if key.is_some() {
            forbidden.push(Path::of("cluster").key(name));
        }
    }
    for path in forbidden {
        check.add(&path, "a key in a worker's config", "", "remove it: whoever holds it holds the cluster, and a worker never needs it");
    }
}

fn joins(cluster: &Cluster, why: &str, check: &mut Check<'_>) {
    if cluster.control_planes.is_empty() {
        let expected = "the address of a control plane's machine API, such as 192.0.2.10:50000";
        check.add(&Path::of("cluster.controlPlanes"), "missing field", expected, why);
    }
    if cluster.join_token.is_none() {
        check.add(&Path::of("cluster.joinToken"), "missing field", "a join token", why);
    }
}

fn certificates(path: &Path, text: &str, check: &mut Check<'_>) {
    match pem::blocks(text) {
        Err(found) => check.add(path, found, "certificates in PEM", "copy it whole, from BEGIN to END CERTIFICATE"),
        Ok(blocks) => {
            for block in blocks.iter().filter(|block| block.label != "CERTIFICATE") {
                // The label alone: a private key at this place is still a secret.
                check.add(path, format!("a PEM block {}", block.label), "CERTIFICATE blocks alone", "");
            }
        }
    }
}

fn private_key(path: &Path, key: &Secret, check: &mut Check<'_>) {
    let convert = "convert it with: openssl pkcs8 -topk8 -nocrypt";
    match pem::blocks(key.reveal()).as_deref() {
        Ok([block]) if block.label == "PRIVATE KEY" => {}
        Ok([block]) if block.label.ends_with("PRIVATE KEY") => {
            check.add(path, format!("a PEM block {}", block.label), "a private key as PKCS#8 (PRIVATE KEY)", convert);
        }
        Ok([block]) => check.add(path, format!("a PEM block {}", block.label), "a private key as PKCS#8 (PRIVATE KEY)", ""),
        Ok(blocks) => check.add(path, format!("{} PEM blocks", blocks.len()), "one private key", ""),
        Err(found) => check.add(path, *found, "a private key in PEM (PKCS#8)", "copy it whole, from BEGIN to END PRIVATE KEY"),
    }
}

/// An authority for two kinds of trust would let a kubelet's certificate open etcd.
fn apart(authorities: &[(&str, &CertificateAuthority)], check: &mut Check<'_>) {
    let of = |authority: &CertificateAuthority| -> Vec<Vec<u8>> {
        pem::blocks(&authority.certificate).into_iter().flatten().map(|block| block.der).collect()
    };
    for (index, (name, authority)) in authorities.iter().enumerate() {
        let own = of(authority);
        if let Some((other, _)) = authorities[..index].iter().find(|(_, earlier)| of(earlier).iter().any(|der| own.contains(der))) {
            let path = Path::of(PATH).key(name).key("certificate");
            check.add(
                &path,
                format!("the certificate of {other}"),
                "an authority of its own",
                "make six authorities, each with its own key",
            );
        }
    }
}

fn is_token(text: &str) -> bool {
    let legal = |part: &str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(id, secret)| id.len() == 6 && secret.len() == 16 && legal(id) && legal(secret))
}

impl CertificateAuthorities {
    /// All six with the names of their fields.
    pub fn named(&self) -> [(&'static str, &CertificateAuthority); 6] {
        [
            ("kubernetes", &self.kubernetes),
            ("kubelet", &self.kubelet),
            ("etcdPeer", &self.etcd_peer),
            ("etcdClient", &self.etcd_client),
            ("frontProxy", &self.front_proxy),
            ("machine", &self.machine),
        ]
    }
}
