//! Carries out the steps of stage 2. Only the opening of a volume takes turns of the event loop.

use std::os::fd::AsFd;
use std::time::Duration;

use machine::disk::Volume;
use machine::protocol::Medium;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::system::RebootCommand;

use super::{Child, Init};
use crate::console;
use crate::gpt::table::Table;
use crate::gpt::{self, Disk};
use crate::stage1::COUNTDOWN;
use crate::stage2;
use crate::stage2::drivers::Work;
use crate::stage2::sequence::Step;
use crate::stage2::{agent, etc, identity, sysctl};
use crate::step::{self, Answer, Phase, Step as _};
use crate::sys::{self, PartitionChange};
use crate::volume::Volumes;
use crate::volume::state::{Event, State};
use crate::{block, clock, files, mount, power, process, server, uevent, watchdog};

/// Output of init's own tools; no service can have that name.
pub const TOOLS_LOG: &str = "init.tools";

/// A step that is to be done, and when it began.
#[derive(Debug)]
pub struct Begun {
    step: Step,
    at: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Mount(#[from] mount::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::Error),
    #[error(transparent)]
    Sysctl(#[from] sysctl::Refused),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error(transparent)]
    Partitions(#[from] gpt::Error),
    #[error("{0}")]
    Io(&'static str, #[source] std::io::Error),
    #[error("{0} cannot be opened: {1}")]
    Volume(&'static str, String),
    #[error(transparent)]
    Agent(#[from] machine::service::BadServiceId),
}

/// Whether a step has come to its end.
enum Progress {
    Done,
    Running,
}

impl Init {
    /// Sets out to carry out a sequence.
    pub fn boot(&mut self, phases: Vec<Phase<Step>>) {
        self.boot = phases.into_iter().flat_map(|phase| phase.steps).map(|step| Begun { step, at: None }).collect();
    }

    pub(super) fn advance_boot(&mut self) {
        while let Some(begun) = self.boot.front_mut().filter(|_| self.shutdown.is_none()) {
            let step = begun.step;
            let began = *begun.at.get_or_insert_with(clock::since_boot);
            let error = match self.run_step(step) {
                Ok(Progress::Running) => return,
                Ok(Progress::Done) => None,
                Err(error) => Some(console::chain(&error)),
            };
            if let Some(error) = &error {
                let text = format!("{}: {error}", step.name());
                if step.answer() != Answer::GoOn {
                    power::restart_after(&self.console, COUNTDOWN, &text);
                }
                self.console.warning(&text);
            }
            self.facts.steps.push(step::record(&step, began, clock::since_boot(), error));
            self.boot.pop_front();
        }
    }

    fn run_step(&mut self, step: Step) -> Result<Progress, Error> {
        match step {
            Step::Mount(mount) => mount.apply(&self.root)?,
            Step::FillEtc => etc::fill(&self.root)?,
            Step::FillVar => etc::fill_var(&self.root)?,
            Step::LinkDevices => etc::link_devices(&self.root)?,
            Step::ShareMounts => mount::share(&self.root.path("/"))?,
            Step::PrepareCgroups => {
                self.cgroups = crate::cgroup::Cgroups::at(self.root.path(mount::CGROUPS.target));
                self.cgroups.prepare()?;
            }
            Step::SetSysctls => sysctl::set_all(&self.root)?,
            Step::RaiseLoopback => {
                let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
                let socket = socket.map_err(|error| Error::Io("open a socket", error.into()))?;
                sys::raise_link(socket.as_fd(), "lo").map_err(|error| Error::Io("raise lo", error))?;
            }
            Step::SetClock => self.set_clock()?,
            Step::LoadDrivers => {
                self.uevents = Some(uevent::open().map_err(|error| Error::Io("listen for device events", error))?);
                self.drivers.want_all();
                self.load_drivers();
            }
            Step::OpenWatchdog => self.open_watchdog(clock::since_boot()),
            Step::Listen => {
                // Ctrl-Alt-Del becomes a signal instead of a restart on the spot.
                let _ = rustix::system::reboot(RebootCommand::CadOff);
                self.listen().map_err(|error| Error::Io("listen on the socket", error))?;
            }
            Step::FixPartitionTable => self.fix_partition_table()?,
            Step::OpenVolume(volume) => return self.open_at_boot(volume),
            Step::SetSavedClock => self.set_clock()?,
            Step::MachineId => identity::machine_id(&self.root, self.volumes.is_open(Volume::State))?,
            Step::RandomSeed => {
                if self.volumes.is_open(Volume::State) {
                    identity::random_seed(&self.root)?;
                }
            }
            Step::AwaitWatchdog if self.watchdog.due().is_none() && self.drivers.may_bring_watchdog() => return Ok(Progress::Running),
            Step::AwaitWatchdog => {}
            Step::StartAgent => {
                let spec = agent::spec(&self.root)?;
                self.put_service(spec);
            }
        }
        Ok(Progress::Done)
    }

    /// Opens the socket for requests.
    pub fn listen(&mut self) -> std::io::Result<()> {
        self.server = Some(server::Server::listen(&self.root.init_socket())?);
        Ok(())
    }

    fn set_clock(&mut self) -> Result<(), Error> {
        let number = |path: &str| std::fs::read_to_string(self.root.path(path)).ok()?.trim().parse().ok();
        let known = clock::Known {
            system: clock::time_of_day(),
            rtc: number("/sys/class/rtc/rtc0/since_epoch"),
            built: stage2::image_facts(&self.root).map(|image| image.built_at),
            saved: if self.volumes.is_open(Volume::State) { identity::saved_clock(&self.root) } else { None },
        };
        if let Some(seconds) = clock::correction(known) {
            let before = clock::stamp();
            clock::set_time_of_day(seconds).map_err(|error| Error::Io("set the clock", error))?;
            self.console.warning(&format!("the clock stood at {before}, which cannot be, and is set to {}", clock::stamp()));
        }
        Ok(())
    }

    pub(super) fn save_clock(&mut self) {
        if let Err(error) = identity::save_clock(&self.root, clock::time_of_day()) {
            self.console.warning(&format!("save the clock: {}", console::chain(&error)));
        }
    }

    /// Loads what has appeared since the last process for that began.
    pub(super) fn load_drivers(&mut self) {
        if self.shutdown.is_some() {
            return;
        }
        let Some(work) = self.drivers.next() else { return };
        let (program, arguments) = work.command();
        match self.logs.output(TOOLS_LOG).and_then(|output| process::start_tool(program, &arguments, output)) {
            Ok(pid) => {
                self.children.insert(pid, Child::Drivers);
            }
            Err(error) => {
                self.drivers.finished();
                self.console.warning(&format!("load drivers: start {program}: {error}"));
            }
        }
    }

    pub(super) fn drivers_loaded(&mut self) {
        let work = self.drivers.finished();
        self.open_watchdog(clock::since_boot());
        // The drivers of all devices that were there at boot are loaded: where there is no watchdog by now, there is none.
        if work == Some(Work::Coldplug) && !self.root.path(watchdog::DEVICE).exists() {
            self.drivers.want_soft_watchdog();
        }
    }

    pub(super) fn disk_name(&self) -> &str {
        self.facts.disk.strip_prefix("/dev/").unwrap_or(&self.facts.disk)
    }

    pub(super) fn open_disk(&self) -> Result<Disk, Error> {
        let sector = block::sector_size(&self.root, self.disk_name()).map_err(|error| Error::Io("read the disk's sector size", error))?;
        Ok(Disk::open(&self.root.path(&self.facts.disk), sector)?)
    }

    /// What cannot be fixed is reported after all that can be known of the volumes is.
    pub(super) fn fix_partition_table(&mut self) -> Result<(), Error> {
        let mut disk = self.open_disk()?;
        let seen = disk.read()?.table;
        // The installer does so itself, unless a power cut was faster.
        if self.facts.medium == Medium::Disk
            && let Err(error) = disk.complete()
        {
            self.console.warning(&console::chain(&error));
        }
        let fixed = disk.fix().map_err(Error::from);
        let table = fixed.as_ref().unwrap_or(&seen);
        let told = self.tell_kernel(&disk, table);
        let nodes = block::read(&self.root).map_err(|error| Error::Io("look for partitions", error))?;
        self.volumes = Volumes::of_disk(&nodes, self.disk_name(), table);
        self.facts.first_boot = self.volumes.place(Volume::State).state == State::Closed { made: false };
        fixed?;
        told
    }

    /// Tells the kernel of partitions that it knows otherwise, or not at all. It does not look by itself at a disk that is in use.
    fn tell_kernel(&self, disk: &Disk, table: &Table) -> Result<(), Error> {
        let nodes = block::read(&self.root).map_err(|error| Error::Io("look for partitions", error))?;
        for volume in Volume::ALL {
            let partition = volume.partition();
            let (Some((number, _)), Some((start, length))) = (table.find(partition), table.range(partition)) else { continue };
            let known = block::partition(&nodes, self.disk_name(), partition).map(|node| node.size_bytes);
            let change = match known {
                Some(size) if size == length => continue,
                Some(_) => PartitionChange::Resize,
                None => PartitionChange::Add,
            };
            let place = (i32::try_from(number), i64::try_from(start), i64::try_from(length));
            if let (Ok(number), Ok(start), Ok(length)) = place {
                let told = sys::change_partition(disk.file().as_fd(), change, number, start, length);
                told.map_err(|error| Error::Io("tell the kernel of a partition's new size", error))?;
            }
        }
        Ok(())
    }

    fn open_at_boot(&mut self, volume: Volume) -> Result<Progress, Error> {
        if let State::Closed { .. } = self.volumes.place(volume).state {
            self.volume_event(volume, Event::Open);
        }
        let place = self.volumes.place(volume);
        match place.state {
            State::Open => Ok(Progress::Done),
            State::Missing => Err(Error::Volume(volume.partition().label(), "the disk has no such partition".to_owned())),
            State::Broken => Err(Error::Volume(volume.partition().label(), place.reason.clone())),
            _ => Ok(Progress::Running),
        }
    }
}

#[cfg(test)]
mod tests {
    use machine::Root;
    use machine::protocol::BootFacts;

    use super::*;
    use crate::cgroup::Cgroups;
    use crate::console::Console;
    use crate::event_loop::Host;

    /// An image on trial whose boot waits for the watchdog, and then does one step more.
    fn waiting(root: &Root) -> Init {
        let facts = BootFacts { counted: true, ..BootFacts::default() };
        let cgroups = Cgroups::at(root.path(mount::CGROUPS.target));
        let mut init = Init::new(root.clone(), Host::Directory, Console::standard_error(), cgroups, facts).expect("init");
        init.drivers.want_all();
        init.boot(vec![Phase { name: "agent", steps: vec![Step::AwaitWatchdog, Step::FillVar] }]);
        init.advance_boot();
        assert_eq!(init.boot.len(), 2, "the drivers are not loaded yet");
        assert_eq!(init.drivers.next(), Some(Work::Coldplug));
        init.advance_boot();
        assert_eq!(init.boot.len(), 2, "they are being loaded");
        init
    }

    fn watchdog_appears(root: &Root) {
        let path = root.path(watchdog::DEVICE);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make");
        std::fs::write(path, "").expect("write");
    }

    #[test]
    fn nothing_more_is_begun_before_the_watchdog_is_armed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = Root::new(directory.path());
        let mut init = waiting(&root);
        watchdog_appears(&root);
        init.open_watchdog(clock::since_boot());
        init.advance_boot();
        assert!(init.boot.is_empty(), "{:?}", init.boot);
    }

    #[test]
    fn without_a_device_it_is_the_kernels_own_and_without_that_none() {
        for there_is_one in [true, false] {
            let directory = tempfile::tempdir().expect("temporary directory");
            let root = Root::new(directory.path());
            let mut init = waiting(&root);
            init.drivers_loaded();
            init.advance_boot();
            assert_eq!(init.boot.len(), 2, "the kernel's own is to be loaded");
            assert_eq!(init.drivers.next(), Some(Work::SoftWatchdog));
            if there_is_one {
                watchdog_appears(&root);
            }
            init.drivers_loaded();
            assert_eq!(init.watchdog.due().is_some(), there_is_one);
            init.advance_boot();
            assert!(init.boot.is_empty(), "{:?}", init.boot);
        }
    }
}
