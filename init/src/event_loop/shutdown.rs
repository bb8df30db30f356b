//! Carries out the steps of a shutdown, and shows what each waits for.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;

use machine::disk::Volume;
use machine::protocol::PowerAction;
use rustix::mount::MountFlags;

use super::{Host, Init};
use crate::shutdown::sequence::Step;
use crate::shutdown::{Progress, Shutdown, mounts};
use crate::stage2::identity;
use crate::supervisor::order::{self, After};
use crate::supervisor::state::Event;
use crate::{clock, console, files, power, watchdog};

/// Where file systems keep their first superblocks.
const WIPED_BYTES: usize = 1024 * 1024;

impl Init {
    /// Sets out to end the boot. A second request changes nothing.
    pub(super) fn begin_shutdown(&mut self, action: PowerAction, wipe: Vec<Volume>, reason: &str) {
        if self.shutdown.is_some() {
            return;
        }
        let now = clock::since_boot();
        self.console.info(&format!("{action:?} requested: {reason}"));
        // It stays armed: a shutdown that hangs ends in a restart.
        if let Err(error) = self.watchdog.set_timeout(watchdog::SHUTDOWN_TIMEOUT, now) {
            self.console.warning(&format!("watchdog: {error}"));
        }
        self.shutdown = Some(Shutdown::new(action, &wipe, reason, now));
    }

    pub(super) fn advance_shutdown(&mut self) {
        loop {
            let now = clock::since_boot();
            let Some((step, first, over)) = self.shutdown.as_mut().and_then(|shutdown| shutdown.current(now)) else { return };
            if first {
                self.console.info(&step.text());
            }
            let progress = self.run_shutdown_step(step, first, over);
            let Some(shutdown) = &mut self.shutdown else { return };
            match progress {
                Progress::WaitsFor(names) if !over => {
                    if let Some(names) = shutdown.wait(&names, now) {
                        self.console.info(&format!("{}: waiting for {names}", step.text()));
                    }
                    return;
                }
                Progress::WaitsFor(names) => {
                    let text = format!("{}: gave up waiting for {}", step.text(), names.join(", "));
                    self.console.warning(&text);
                    shutdown.finish_step();
                }
                Progress::Done => shutdown.finish_step(),
            }
        }
    }

    fn run_shutdown_step(&mut self, step: Step, first: bool, over: bool) -> Progress {
        match step {
            Step::StopServices => self.stop_services(over),
            Step::TerminateRest => {
                if first {
                    self.cgroups.terminate_others();
                }
                waits_for(self.cgroups.occupied())
            }
            Step::KillRest => {
                self.cgroups.kill_others();
                if first && self.host == Host::Machine && rustix::process::getpid().is_init() {
                    // Every process but this one: also what the kernel started outside the cgroups.
                    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL);
                }
                waits_for(self.cgroups.occupied())
            }
            Step::SaveClock => {
                if self.volumes.is_open(Volume::State) {
                    self.save_clock();
                    if let Err(error) = identity::save_seed(&self.root) {
                        self.console.warning(&format!("save the random seed: {}", console::chain(&error)));
                    }
                }
                Progress::Done
            }
            Step::Record => {
                if self.volumes.is_open(Volume::State)
                    && let Err(error) = self.record_shutdown()
                {
                    self.console.warning(&format!("write down why this boot ends: {error}"));
                }
                Progress::Done
            }
            Step::Unmount => self.unmount(over),
            Step::Wipe(volume) => {
                if let Err(error) = self.wipe(volume) {
                    self.console.error(&format!("{}: {error}", step.text()));
                }
                Progress::Done
            }
            Step::Sync => {
                rustix::fs::sync();
                Progress::Done
            }
            Step::End(action) => self.end(action),
        }
    }

    fn stop_services(&mut self, over: bool) -> Progress {
        let running = |init: &Init| -> After {
            let running = init.services.iter().filter(|(_, service)| service.state.has_process());
            running.map(|(id, service)| (id.clone(), service.spec.after.clone())).collect()
        };
        let idle: Vec<_> = self.services.iter().filter(|(_, service)| !service.state.has_process()).map(|(id, _)| id.clone()).collect();
        for id in idle.into_iter().chain(order::stoppable(&running(self))) {
            self.service_event(&id, Event::Stop);
        }
        let left = running(self);
        if over {
            for id in left.keys() {
                self.service_event(id, Event::Stop);
                self.service_event(id, Event::StopDeadline);
            }
        }
        waits_for(left.keys().map(|id| id.to_string()).collect())
    }

    fn record_shutdown(&self) -> Result<(), String> {
        let Some(shutdown) = &self.shutdown else { return Ok(()) };
        let record = shutdown.record(&self.facts.boot_id, clock::time_of_day());
        let text = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        files::replace(&self.root.last_shutdown(), &text, 0o644).map_err(|error| console::chain(&error))
    }

    fn unmount(&mut self, over: bool) -> Progress {
        if self.host != Host::Machine {
            return Progress::Done;
        }
        self.logs.close_all();
        let info = std::fs::read_to_string(self.root.path("/proc/self/mountinfo")).unwrap_or_default();
        let mut busy = Vec::new();
        for mount in mounts::unmount_order(&info) {
            if let Err(error) = rustix::mount::unmount(&mount.target, mounts::flags(&mount)) {
                if over {
                    // Never lazily: a read-only file system is at rest, a detached one is not.
                    let _ = rustix::mount::mount_remount(&mount.target, MountFlags::RDONLY, c"");
                }
                busy.push(format!("{} ({error})", mount.target.display()));
            }
        }
        waits_for(busy)
    }

    /// Makes the next boot find a volume that was never made, and nothing of its content.
    fn wipe(&mut self, volume: Volume) -> Result<(), String> {
        let device = self.volumes.place(volume).device.clone();
        if device.as_os_str().is_empty() {
            return Err("the disk has no such partition".to_owned());
        }
        // The mark first: from here on a power cut ends in a fresh volume, never in half of the old one.
        let cleared = self.open_disk().and_then(|mut disk| Ok(disk.mark(volume.partition(), false)?));
        cleared.map_err(|error| console::chain(&error))?;
        let size = self.volumes.place(volume).size_bytes;
        let zero = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(&device)?;
            // Disks that cannot forget keep what lies behind the zeros; mkfs makes it unreachable.
            let _ = crate::sys::discard(file.as_fd(), 0, size);
            file.write_all(&vec![0; WIPED_BYTES])?;
            file.sync_all()
        };
        zero().map_err(|error| format!("{}: {error}", device.display()))
    }

    fn end(&mut self, action: PowerAction) -> ! {
        if self.host == Host::Directory {
            std::process::exit(0);
        }
        if action == PowerAction::PowerOff {
            self.watchdog.disarm();
        } else {
            self.watchdog.feed(clock::since_boot());
        }
        power::end(&self.console, action)
    }
}

fn waits_for(names: Vec<String>) -> Progress {
    if names.is_empty() { Progress::Done } else { Progress::WaitsFor(names) }
}
