//! Our agent, natively: on a root directory of its own, with an init that only answers. It has a certificate and no config, which is the
//! stage `recovery`: transport, permission check and handler are those of every other stage, and no controller has anything to do.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use controlplane::pki::CertificateId;
use machine::Root;
use machine::disk::Slot;
use machine::protocol::{BootFacts, ImageFacts};

use super::identities::Identities;
use super::init;
use super::process::{Process, listening};
use crate::programs;

/// What the agent believes that it runs on.
#[derive(Debug)]
pub struct Played {
    pub image: ImageFacts,
    pub boot: BootFacts,
}

impl Played {
    /// An image without Kubernetes, in a slot of no disk.
    pub fn bare() -> Played {
        let image = ImageFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: "bare".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            kubernetes: String::new(),
            etcd: String::new(),
            built_at: 0,
            partitions: Vec::new(),
        };
        let boot_id = "00000000-0000-0000-0000-000000000000".to_owned();
        Played { image, boot: BootFacts { boot_id, slot: Some(Slot::A), ..BootFacts::default() } }
    }
}

/// Starts it on the root directory `folder` and waits until it listens.
pub async fn start(folder: &Path, identities: &Identities, played: &Played) -> anyhow::Result<Process> {
    let root = Root::new(folder);
    let named = |suffix: &str| root.pki().join(format!("{}{suffix}", CertificateId::Machine));
    write(&named(".crt"), identities.server.certificate_pem.as_bytes())?;
    write(&named(".key"), identities.server.key_pem.reveal().as_bytes())?;
    write(&named("-ca.crt"), identities.authority_pem.as_bytes())?;
    write(&root.image_facts(), &serde_json::to_vec(&played.image)?)?;
    init::answer(&root, &played.boot)?;
    // Without these capabilities it can touch neither the host's clock nor its kernel modules, nor switch it off.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_time,-sys_module,-sys_boot"]).arg(programs::released(programs::AGENT));
    command.env("CORTEN_ROOT", folder);
    let log = folder.join("log");
    let process = Process::start("nodeagent", &mut command, &log)?;
    listening(process, SocketAddr::from((Ipv4Addr::LOCALHOST, ::api::PORT)), &log).await
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    fs::create_dir_all(path.parent().with_context(writing)?).with_context(writing)?;
    fs::write(path, bytes).with_context(writing)
}
