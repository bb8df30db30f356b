//! Stage 1: init in the initramfs. It finds what was booted and there the root that the command line's root hash belongs to: a slot of a
//! disk, or files of an installation medium or of the initramfs itself. It opens the root through dm-verity and hands over to the init in
//! it. It writes to no disk.

mod device_mapper;
mod disk;
mod iso9660;
mod loop_device;
mod medium;
mod modules;
mod sequence;
mod switch_root;
mod verity;
mod wait;

use std::convert::Infallible;
use std::time::Duration;

use machine::Root;
use machine::protocol::{BootFacts, Medium};
use machine::verity::Superblock;

use crate::block::NoDisk;
use crate::console::{self, Console};
use crate::mount;
use crate::step::{self, Answer, Phase, Step as _};
use crate::watchdog::{self, Watchdog};
use crate::{clock, cmdline, files, loader, power};
use loop_device::Loop;
use medium::Images;
use modules::Modules;
use sequence::Step;

/// Where the root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/sysroot";
/// The init of the root.
const NEXT: &str = "/usr/sbin/init";
/// How long a shown error stays on the screen before the machine restarts.
pub const COUNTDOWN: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Mount(#[from] mount::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    CommandLine(#[from] cmdline::Error),
    #[error("the kernel command line has no corten.roothash: this is not a kernel that image-build made")]
    NoRootHash,
    #[error("no disk to boot from")]
    Disk(#[from] NoDisk),
    #[error(transparent)]
    Medium(#[from] medium::Error),
    #[error(transparent)]
    Loop(#[from] loop_device::Error),
    #[error("arm the watchdog")]
    Watchdog(#[source] std::io::Error),
    #[error("look for disks")]
    Sysfs(#[source] std::io::Error),
    #[error(transparent)]
    Verity(#[from] verity::Error),
    #[error(transparent)]
    DeviceMapper(#[from] device_mapper::Error),
    #[error("write what was found for stage 2")]
    Facts(#[source] serde_json::Error),
    #[error("{0} needs what an earlier step did not find")]
    Order(&'static str),
    #[error(transparent)]
    SwitchRoot(#[from] switch_root::Error),
}

/// Runs stage 1. It ends in the next init or in a restart.
pub fn run() -> ! {
    let root = Root::new("/");
    let mut stage = Stage1 {
        console: Console::standard_error(),
        facts: BootFacts::default(),
        line: cmdline::CommandLine::default(),
        loader: loader::Loader::default(),
        modules: Modules::default(),
        watchdog: Watchdog::new(),
        images: None,
        source: None,
        device: None,
        root,
    };
    stage.carry_out(sequence::opening());
    stage.carry_out(sequence::closing(stage.facts.medium));
    power::restart_after(&stage.console, COUNTDOWN, "stage 1 came to its end without a next init");
}

/// What the root is opened from. Devices are `major:minor`.
struct Source {
    superblock: Superblock,
    data: String,
    hashes: String,
    /// Kept until the device mapper holds them open.
    _loops: Vec<Loop>,
}

struct Stage1 {
    root: Root,
    console: Console,
    facts: BootFacts,
    line: cmdline::CommandLine,
    loader: loader::Loader,
    modules: Modules,
    watchdog: Watchdog,
    /// The root's files, where it lies in files.
    images: Option<Images>,
    source: Option<Source>,
    /// The verity device, once open.
    device: Option<std::path::PathBuf>,
}

impl Stage1 {
    /// Carries out phases; a step that the boot hangs on ends in a restart when it fails.
    fn carry_out(&mut self, phases: Vec<Phase<Step>>) {
        for step in phases.into_iter().flat_map(|phase| phase.steps) {
            let began = clock::since_boot();
            let mut tries = if let Answer::Retry(times) = step.answer() { times } else { 0 };
            let error = loop {
                match self.run(step) {
                    Ok(()) => break None,
                    Err(error) if tries > 0 => {
                        tries -= 1;
                        self.console.warning(&format!("{}: {}; trying again", step.name(), console::chain(&error)));
                        power::pause(Duration::from_secs(1));
                    }
                    Err(error) => break Some(console::chain(&error)),
                }
            };
            if let Some(error) = &error {
                let text = format!("{}: {error}", step.name());
                if step.answer() != Answer::GoOn {
                    power::restart_after(&self.console, COUNTDOWN, &text);
                }
                self.console.warning(&text);
            }
            self.facts.steps.push(step::record(&step, began, clock::since_boot(), error));
        }
    }

    fn run(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Mount(mount) => {
                mount.apply(&self.root)?;
                if mount.target == "/dev" {
                    self.console = Console::open(&self.root);
                }
            }
            Step::LoadModules => {
                self.modules = Modules::read(&self.root)?;
                // First: a crash in what follows leaves its words.
                self.modules.load_named(&modules::CRASH_RECORDS, &self.console);
                self.modules.load_general(&self.console);
            }
            Step::ArmWatchdog => {
                self.modules.load_drivers(&modules::WATCHDOGS, &self.root, &self.console);
                let now = clock::since_boot();
                self.watchdog.set_timeout(watchdog::STAGE1_TIMEOUT, now).map_err(Error::Watchdog)?;
                let taken = self.watchdog.open(&self.root.path(watchdog::DEVICE), now).map_err(Error::Watchdog)?;
                // One that knows shorter times only would have to be fed.
                if taken.is_some_and(|taken| taken < watchdog::STAGE1_TIMEOUT) {
                    self.watchdog.disarm();
                }
            }
            Step::ReadCommandLine => {
                let path = self.root.path("/proc/cmdline");
                let text = std::fs::read_to_string(&path).map_err(files::at("read", &path))?;
                self.line = cmdline::parse(&text)?;
                self.facts.root_hash = cmdline::hex(&self.line.root_hash.ok_or(Error::NoRootHash)?);
            }
            Step::DecideMedium => {
                self.loader = loader::read(&self.root);
                self.facts.platform = self.line.platform.clone().unwrap_or_default();
                self.facts.entry = self.loader.entry.clone().unwrap_or_default();
                self.facts.counted = self.loader.counted;
                self.facts.medium = medium::decide(self.line.medium, &self.loader, medium::is_in_initramfs(&self.root));
            }
            Step::FindDisk => {
                let hint = disk::hint(&self.loader, &self.line);
                let look = || disk::look(&self.root, &hint);
                let load = || self.modules.load_next_driver(&self.root, &self.console);
                let disk = wait::until_found(&self.console, "the disk", look, load)?;
                self.facts.disk = format!("/dev/{disk}");
            }
            Step::FindSlot => {
                let hash = self.hash()?;
                let nodes = crate::block::read(&self.root).map_err(Error::Sysfs)?;
                let (slot, superblock) = verity::find(&nodes, self.disk_name(), &hash, self.loader.entry.as_deref())?;
                let (data, hashes) = verity::numbers(&self.root, &nodes, self.disk_name(), slot)?;
                self.console.info(&format!("slot {} on {}", slot.name(), self.facts.disk));
                self.facts.slot = Some(slot);
                self.source = Some(Source { superblock, data, hashes, _loops: Vec::new() });
            }
            Step::LoadMediumModules => {
                let names: &[&str] = if self.facts.medium == Medium::Iso { &modules::ISO } else { &modules::NETWORK };
                self.modules.load_named(names, &self.console);
            }
            Step::FindIso => {
                let hash = self.hash()?;
                let look = || medium::look(&self.root, &self.loader, &hash);
                let load = || self.modules.load_next_driver(&self.root, &self.console);
                let found = wait::until_found(&self.console, "the installation medium", look, load);
                self.images = Some(found.map_err(medium::Error::None)?);
            }
            Step::KeepInitramfs => {
                medium::keep(&self.root)?;
                self.images = Some(medium::images(&self.root, &self.hash()?)?);
            }
            Step::AttachImages => {
                let images = self.images.as_ref().ok_or(Error::Order("attach the root"))?;
                let (data, hashes) = (loop_device::attach(&self.root, &images.root)?, loop_device::attach(&self.root, &images.tree)?);
                self.source = Some(Source {
                    superblock: images.superblock.clone(),
                    data: data.number.clone(),
                    hashes: hashes.number.clone(),
                    _loops: vec![data, hashes],
                });
            }
            Step::OpenVerity => {
                let (Some(source), Some(hash)) = (&self.source, &self.line.root_hash) else {
                    return Err(Error::Order("open the root"));
                };
                self.device = Some(device_mapper::open(&self.root, &source.data, &source.hashes, &source.superblock, hash)?);
            }
            Step::MountRoot => {
                let device = self.device.as_ref().ok_or(Error::Order("mount the root"))?;
                mount::root(device, &self.root.path(NEW_ROOT))?;
            }
            Step::WriteFacts => {
                let path = self.root.boot_facts();
                let text = serde_json::to_vec(&self.facts).map_err(Error::Facts)?;
                files::replace(&path, &text, 0o644)?;
            }
            Step::SwitchRoot => {
                self.watchdog.feed(clock::since_boot());
                self.watchdog.hand_over();
                let never: Infallible = switch_root::switch(NEW_ROOT, NEXT, &self.root.path(medium::FILES))?;
                match never {}
            }
        }
        Ok(())
    }

    fn hash(&self) -> Result<[u8; 32], Error> {
        self.line.root_hash.ok_or(Error::Order("find the root"))
    }

    fn disk_name(&self) -> &str {
        self.facts.disk.strip_prefix("/dev/").unwrap_or(&self.facts.disk)
    }
}
