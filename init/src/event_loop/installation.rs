//! Gives a machine that was booted from an installation medium a disk: lays one out, and takes it as the machine's own once the agent has
//! filled it.

use std::os::fd::AsFd;

use machine::disk::{Partition, Volume};
use machine::protocol::{Event as Told, Medium};

use super::{Host, Init};
use crate::gpt::{self, Disk};
use crate::installation::{self, Refused};
use crate::shutdown::mounts;
use crate::volume::Volumes;
use crate::{block, console, stage2, sys};

impl Init {
    /// Writes the image's partition table to a disk. The event loop waits for that: a dozen MiB and the disk's own flushes, on a machine on
    /// which nothing else runs.
    pub(super) fn lay_out_disk(&mut self, device: &str, wipe: bool) -> Result<(), Refused> {
        installation::may_install(&self.facts, device)?;
        let partitions = stage2::image_facts(&self.root).map(|image| image.partitions).unwrap_or_default();
        let mounts = std::fs::read_to_string(self.root.path("/proc/self/mountinfo")).unwrap_or_default();
        let chosen = installation::candidate(&self.root, &mounts::all(&mounts), device, &partitions)?;
        let mut disk = Disk::claim(&self.root.path(device), chosen.sector_size).map_err(|error| match error {
            gpt::Error::Open(_, source) if source.raw_os_error() == Some(nix::libc::EBUSY) => Refused::InUse(device.to_owned()),
            other => Refused::Table(other),
        })?;
        installation::may_overwrite(disk.content()?, wipe, device)?;
        self.console.info(&format!("{device}: writing the partition table"));
        disk.lay_out(&chosen.extents)?;
        if self.host != Host::Machine {
            return Ok(());
        }
        sys::read_partition_table(disk.file().as_fd()).map_err(Refused::Kernel)?;
        let nodes = block::read(&self.root).map_err(Refused::Sysfs)?;
        let shown = |partition: &&Partition| block::partition(&nodes, &chosen.name, **partition).is_some();
        match partitions.iter().find(|partition| !shown(partition)) {
            Some(missing) => Err(Refused::NotShown(device.to_owned(), missing.label())),
            None => Ok(()),
        }
    }

    /// Takes a disk as the machine's own.
    pub(super) fn adopt_disk(&mut self, device: &str) -> Result<(), String> {
        if self.facts.medium != Medium::Disk && self.facts.disk == device {
            return Ok(());
        }
        let failed = |refused: Refused| console::chain(&refused);
        installation::may_install(&self.facts, device).map_err(failed)?;
        let nodes = block::read(&self.root).map_err(|error| failed(Refused::Sysfs(error)))?;
        let node = installation::whole_disk(&self.root, &nodes, device).map_err(failed)?;
        let wanted = [Partition::Esp, Partition::RootA, Partition::State];
        if let Some(missing) = wanted.iter().find(|partition| block::partition(&nodes, &node.name, **partition).is_none()) {
            return Err(failed(Refused::NotLaidOut(device.to_owned(), missing.label())));
        }
        self.facts.disk = device.to_owned();
        if let Err(error) = self.fix_partition_table() {
            self.facts.disk.clear();
            self.facts.first_boot = false;
            self.volumes = Volumes::default();
            return Err(console::chain(&error));
        }
        self.console.info(&format!("{device} is this machine's disk from now on"));
        for volume in Volume::ALL {
            let status = self.volumes.status(volume);
            if let Some(server) = &mut self.server {
                server.publish(&Told::Volume(status));
            }
        }
        Ok(())
    }
}
