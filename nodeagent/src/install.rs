//! The installation: a machine that was booted from a medium or over the network gets a disk of its own, and boots from that ever after.
//!
//! Applying a config begins it. A cut at any instant leaves a disk that nobody can boot, and that an installation may begin with again, or a
//! complete one: the boot loader's entry comes last.
//!
//! reads: disks, what init found at boot, the medium   writes: the disk, the first config generation on it, firmware variables; disks,
//! installations

mod carry_out;
mod copy;
pub mod disks;
pub mod efi;
mod esp;
mod inventory;
mod medium;
mod plan;
#[cfg(test)]
pub mod played;
mod progress;
#[cfg(test)]
mod tests;

use machine::config::Config;
use machine::disk::Partition;
use machine::protocol::{ImageFacts, Medium as Booted};
use machine::stage::Stage;

use crate::controllers::images;
use crate::failpoint::Failpoints;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::installation::Phase;
use crate::stage::StageEvent;
use carry_out::Installation;
use medium::Medium;
use plan::Plan;

/// Puts the machine onto a disk.
#[derive(Debug, Clone)]
pub struct Installer {
    node: Node,
    failpoints: Failpoints,
}

/// A config, as it is to lie on the new disk.
#[derive(Debug, Clone)]
pub struct FirstConfig {
    pub text: String,
    /// Who applied it, as its record has it.
    pub by: String,
}

/// Whether the machine runs from a medium or the network: what is on disks is not its own in this boot.
pub fn is_on_medium(node: &Node) -> bool {
    node.boot_facts().medium != Booted::Disk
}

impl Installer {
    pub fn new(node: Node, failpoints: Failpoints) -> Installer {
        Installer { node, failpoints }
    }

    /// Whether a config is to be installed with, instead of being put in force.
    pub fn is_wanted(&self) -> bool {
        is_on_medium(&self.node)
    }

    /// What an installation with this config does.
    pub async fn plan(&self, config: &Config) -> Result<Plan, Refusal> {
        if self.node.stage() != Stage::Maintenance {
            let problem = "the machine is being installed already";
            return Err(Refusal::state("INSTALLING", problem, "wait until it has rebooted; see machinectl get installations"));
        }
        let facts = self.node.init.boot_facts().await.map_err(Refusal::init)?;
        let image = self.image()?;
        let medium = Medium::open(&self.node.root, &facts.root_hash)?;
        let disks = inventory::read(&self.node.root, &facts.disk)?;
        let wanted = plan::Wanted { install: config.machine.install.as_ref(), partitions: &image.partitions, adopted: &facts.disk };
        let disk = plan::choose(&disks, &wanted).map_err(|no_disk| Refusal::field(no_disk.field(), no_disk.to_string()))?;
        let resumed = disk.path == facts.disk;
        Ok(Plan { disk: disk.clone(), wipe: wanted.wipe(), resumed, image, medium })
    }

    /// Lays out the disk, and goes on with all else on its own: this answers once nothing is left to be refused.
    pub async fn begin(&self, plan: Plan, config: FirstConfig) -> Result<(), Refusal> {
        self.node.happened(StageEvent::InstallBegan);
        let device = plan.disk.path.clone();
        if !plan.resumed
            && let Err(error) = self.node.init.lay_out_disk(device.clone(), plan.wipe).await
        {
            self.node.happened(StageEvent::InstallFailed);
            return Err(Refusal::field(plan::FIELD, format!("{error:#}")));
        }
        progress::forget_refusal(&self.node);
        let installation = Installation::new(&self.node, &plan, config, self.failpoints.clone());
        installation.progress.tell(Phase::Writing, &format!("installing {} on {device}", plan.image.version));
        tokio::spawn(async move { finish(installation).await });
        Ok(())
    }

    /// Shows why nothing is installed. While an installation is under way, it is that which is shown.
    pub fn refused(&self, refusal: &Refusal) {
        if self.node.stage() == Stage::Maintenance {
            let version = images::facts(&self.node.root).map(|image| image.version).unwrap_or_default();
            progress::tell_refusal(&self.node, version, refusal.to_string());
        }
    }

    fn image(&self) -> Result<ImageFacts, Refusal> {
        let problem = "the image does not say which partitions a disk of its has";
        let found = images::facts(&self.node.root).filter(|image| image.partitions.contains(&Partition::RootA));
        found.ok_or_else(|| Refusal::state("IMAGE_UNFIT", problem, "make the medium anew by image-build"))
    }
}

async fn finish(installation: Installation) {
    let progress = &installation.progress;
    match installation.carry_out().await {
        Ok(()) => {
            progress.tell(Phase::Installed, &format!("installed on {}; the machine reboots from it", progress.device));
            installation.reboot().await;
        }
        Err(error) => {
            let remedy = "apply the config again, or reboot the medium";
            progress.tell(Phase::Failed, &format!("installing on {}: {error:#}; {remedy}", progress.device));
            installation.give_up();
        }
    }
}
