//! Fills a disk that was laid out, step by step. Every step may be cut off and done again; the entry of the boot loader comes after all that
//! it needs.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use anyhow::{Context, bail};
use machine::disk::{INSTALLING_MARK_AT, Partition, Slot, Volume};
use machine::protocol::{ImageFacts, PowerAction, VolumeState};
use machine::stage::Stage;

use super::FirstConfig;
use super::copy::{Target, copy};
use super::medium::Medium;
use super::plan::Plan;
use super::progress::Progress;
use super::{efi, esp};
use crate::clock::wall_seconds;
use crate::config::{Current, Generations};
use crate::failpoint::Failpoints;
use crate::node::Node;
use crate::stage::StageEvent;
use crate::upgrade::disk::Disk;

/// An installation under way.
#[derive(Debug, Clone)]
pub struct Installation {
    node: Node,
    pub progress: Progress,
    sector_bytes: u64,
    disk: Disk,
    medium: Medium,
    image: ImageFacts,
    config: FirstConfig,
    failpoints: Failpoints,
}

impl Installation {
    pub fn new(node: &Node, plan: &Plan, config: FirstConfig, failpoints: Failpoints) -> Installation {
        Installation {
            node: node.clone(),
            progress: Progress::new(node.clone(), plan.disk.path.clone(), plan.image.version.clone()),
            sector_bytes: plan.disk.sector_bytes,
            disk: Disk::new(&node.root, &plan.disk.path),
            medium: plan.medium.clone(),
            image: plan.image.clone(),
            config,
            failpoints,
        }
    }

    /// All of it, but the reboot.
    pub async fn carry_out(&self) -> anyhow::Result<()> {
        self.failpoints.reach("install::laid-out")?;
        self.blocking(Installation::fill_slot).await?;
        self.node.init.adopt_disk(self.progress.device.clone()).await?;
        self.failpoints.reach("install::adopted")?;
        self.open_state().await?;
        self.blocking(Installation::keep_config).await?;
        self.blocking(Installation::make_bootable).await?;
        self.blocking(Installation::complete).await
    }

    /// Starts the machine from its disk.
    pub async fn reboot(&self) {
        self.node.happened(StageEvent::RebootAsked);
        let reason = format!("installed on {}", self.progress.device);
        if let Err(error) = self.node.init.power(PowerAction::Reboot, Vec::new(), reason).await {
            self.node.events.emit("machine", "PowerRefused", format!("{error:#}"));
            self.node.happened(StageEvent::PowerRefused { before: Stage::Maintenance });
        }
    }

    /// Leaves the disk as it is: the machine waits for a config again.
    pub fn give_up(&self) {
        self.node.happened(StageEvent::InstallFailed);
    }

    /// Root, hash tree, and the boot partition without an entry.
    fn fill_slot(&self) -> anyhow::Result<()> {
        let device = self.disk.device(Partition::Esp)?;
        esp::make(&self.node.root, &device, self.sector_bytes)?;
        self.failpoints.reach("install::file-system-made")?;
        let boot = self.disk.esp(self.failpoints.clone())?.open()?;
        self.progress.of_copy("the boot partition", &[&self.medium.loader, &self.medium.loader, &self.medium.uki], |progress| {
            esp::fill(boot.path(), &self.medium, progress)
        })?;
        drop(boot);
        self.failpoints.reach("install::boot-files-written")?;
        for (what, from, to) in [
            ("the root", &self.medium.root, self.disk.root_device(Slot::A)?),
            ("the root's hash tree", &self.medium.verity, self.disk.verity_device(Slot::A)?),
        ] {
            self.progress.of_copy(what, &[from], |progress| copy(from, &to, Target::Device, progress))?;
            self.failpoints.reach("install::image-copied")?;
        }
        Ok(())
    }

    async fn open_state(&self) -> anyhow::Result<()> {
        match self.node.init.open_volume(Volume::State).await?.state {
            VolumeState::Open => Ok(self.failpoints.reach("install::state-opened")?),
            VolumeState::Broken { reason } => bail!("opening STATE: {reason}"),
            other => bail!("opening STATE: it is {other:?}"),
        }
    }

    /// As the machine would have kept it, had it had its disk already.
    fn keep_config(&self) -> anyhow::Result<()> {
        let generations = Generations::new(self.node.root.config_directory()).with_failpoints(self.failpoints.clone());
        let kept = generations.current()?.and_then(|current| generations.document(current.generation).ok());
        if kept.as_ref() != Some(&self.config.text) {
            let number = generations.add(&self.config.text, &self.config.by, wall_seconds())?;
            generations.point(&Current::lasting(number))?;
        }
        Ok(self.failpoints.reach("install::config-kept")?)
    }

    /// This is the instant from which the disk is a machine's.
    fn make_bootable(&self) -> anyhow::Result<()> {
        self.disk.esp(self.failpoints.clone())?.bless(Slot::A, &self.image.version, &self.image.profile)?;
        Ok(self.failpoints.reach("install::entry-written")?)
    }

    /// Takes away the mark of an installation that is under way, and tells the firmware of the disk.
    fn complete(&self) -> anyhow::Result<()> {
        let path = self.node.root.path(&self.progress.device);
        let zeros = vec![0; usize::try_from(self.sector_bytes)?];
        let disk = OpenOptions::new().write(true).open(&path);
        let cleared = disk.and_then(|disk| disk.write_all_at(&zeros, INSTALLING_MARK_AT).and_then(|()| disk.sync_all()));
        cleared.with_context(|| format!("writing {}", path.display()))?;
        self.failpoints.reach("install::completed")?;
        // Firmware starts a disk's loader without being told to; what fails here costs tries after a bad upgrade, not the installation.
        if let Err(error) = self.tell_firmware() {
            let line = format!("registering the disk with the firmware: {error:#}");
            self.node.events.emit("machine", "FirmwareNotTold", &line);
            self.node.console.print(&line);
        }
        Ok(())
    }

    fn tell_firmware(&self) -> anyhow::Result<()> {
        let tries = machine::config::Health::default().tries.into();
        efi::register(&self.node.root, &self.progress.device, self.sector_bytes, tries, efi::Place::First)
    }

    async fn blocking(&self, step: fn(&Installation) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let installation = self.clone();
        tokio::task::spawn_blocking(move || step(&installation)).await?
    }
}
