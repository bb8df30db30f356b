//! Carries out what the volumes' state machine decides.

use std::fs::File;
use std::io;

use machine::disk::Volume;
use machine::protocol::{Event as Told, Response};
use machine::service::Exit;

use super::boot::TOOLS_LOG;
use super::{Child, Init};
use crate::stage2::{drivers, etc};
use crate::volume::ext4;
use crate::volume::state::{Effect, Event, Outcome, State, next};
use crate::{console, log, mount, process};

impl Init {
    /// Lets an event happen to a volume, and all that follows from it.
    pub(super) fn volume_event(&mut self, volume: Volume, event: Event) {
        let label = volume.partition().label();
        let mut event = Some(event);
        while let Some(now) = event.take() {
            let place = self.volumes.place(volume);
            let (state, effect) = next(place.state, now);
            let changed = state != place.state;
            place.state = state;
            if changed {
                match state {
                    State::Making => self.console.info(&format!("{label}: making the file system")),
                    State::Repairing => self.console.warning(&format!("{label}: damaged, repairing")),
                    State::Open => self.console.info(&format!("{label} is open")),
                    State::Broken => self.console.error(&format!("{label} is broken and left as it is: {}", place.reason)),
                    _ => {}
                }
                let status = self.volumes.status(volume);
                if let Some(server) = &mut self.server {
                    server.publish(&Told::Volume(status));
                }
            }
            let Some(effect) = effect else { return };
            match self.carry_out_volume(volume, effect) {
                Ok(outcome) => event = outcome.map(Event::Done),
                Err(reason) => {
                    self.volumes.place(volume).reason = reason;
                    event = Some(Event::Done(Outcome::Failed));
                }
            }
        }
    }

    /// Carries out one effect: `None` where a tool was started, whose end comes later.
    fn carry_out_volume(&mut self, volume: Volume, effect: Effect) -> Result<Option<Outcome>, String> {
        let device = self.volumes.place(volume).device.clone();
        match effect {
            Effect::LoadModules => {
                let arguments = ["-q", ext4::QUOTA_MODULE].map(str::to_owned);
                self.start_volume_tool(volume, drivers::MODPROBE, &arguments)?;
                Ok(None)
            }
            Effect::Make => {
                let quota = self.root.path("/sys/module").join(ext4::QUOTA_MODULE).exists();
                self.start_volume_tool(volume, ext4::MAKE, &ext4::make_arguments(volume, &device, quota))?;
                Ok(None)
            }
            Effect::Mark => {
                // The mark must never be on the disk before the file system is.
                File::open(&device).and_then(|device| device.sync_all()).map_err(|error| format!("sync {}: {error}", device.display()))?;
                let marked = self.open_disk().and_then(|mut disk| Ok(disk.mark(volume.partition(), true)?));
                marked.map_err(|error| console::chain(&error))?;
                Ok(Some(Outcome::Good))
            }
            Effect::Check | Effect::Repair => {
                self.start_volume_tool(volume, ext4::CHECK, &ext4::check_arguments(&device, effect == Effect::Repair))?;
                Ok(None)
            }
            Effect::Mount => {
                let superblock = ext4::read(&device).map_err(|error| format!("read the superblock: {error}"))?;
                let (flags, options) = ext4::mount_options(volume, &superblock);
                let target = self.root.path(volume.mount_point());
                mount::file_system("ext4", &device, &target, flags, &options).map_err(|error| console::chain(&error))?;
                self.after_mount(volume);
                Ok(Some(Outcome::Good))
            }
            Effect::Grow => {
                let size = self.volumes.place(volume).size_bytes;
                if ext4::read(&device).is_ok_and(|superblock| ext4::should_grow(&superblock, size)) {
                    self.start_volume_tool(volume, ext4::GROW, &[device.display().to_string()])?;
                    return Ok(None);
                }
                Ok(Some(Outcome::Good))
            }
            Effect::Report => {
                let response = Response::Volume(self.volumes.status(volume));
                for ticket in std::mem::take(&mut self.volumes.place(volume).waiting) {
                    if let Some(server) = &mut self.server {
                        server.answer(ticket, &response);
                    }
                }
                Ok(None)
            }
        }
    }

    fn start_volume_tool(&mut self, volume: Volume, program: &str, arguments: &[String]) -> Result<(), String> {
        let started: io::Result<u32> = self.logs.output(TOOLS_LOG).and_then(|output| process::start_tool(program, arguments, output));
        let pid = started.map_err(|error| format!("start {program}: {error}"))?;
        self.children.insert(pid, Child::Volume(volume));
        Ok(())
    }

    pub(super) fn volume_tool_exited(&mut self, volume: Volume, exit: Exit) {
        self.logs.finish(TOOLS_LOG);
        let place = self.volumes.place(volume);
        let (tool, outcome) = match place.state {
            State::Checking => ("e2fsck -p", ext4::check_outcome(exit, false)),
            State::Repairing => ("e2fsck -y", ext4::check_outcome(exit, true)),
            State::Making => ("mkfs.ext4", if exit == Exit::Code(0) { Outcome::Good } else { Outcome::Failed }),
            State::Growing => ("resize2fs", if exit == Exit::Code(0) { Outcome::Good } else { Outcome::Failed }),
            _ => ("modprobe", Outcome::Good),
        };
        if outcome != Outcome::Good {
            place.reason = format!("{tool}: {exit} (see {TOOLS_LOG}.log)");
            let text = format!("{}: {}", volume.partition().label(), place.reason);
            self.console.warning(&text);
        }
        self.volume_event(volume, Event::Done(outcome));
    }

    /// What a volume that has just been mounted is used for.
    fn after_mount(&mut self, volume: Volume) {
        if volume == Volume::Ephemeral {
            if let Err(error) = etc::fill_var(&self.root) {
                self.console.warning(&console::chain(&error));
            }
            if let Err(error) = self.logs.move_to(self.root.log_directory(), log::KEPT) {
                self.console.warning(&format!("logs stay in memory: {error}"));
            }
        }
    }
}
