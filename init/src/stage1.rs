//! Stage 1: init in the initramfs. It finds the disk that was booted and the slot that the command line's root hash belongs to, opens it
//! through dm-verity, and hands over to the init in it. It writes to no disk.

mod device_mapper;
mod disk;
mod modules;
mod sequence;
mod switch_root;
mod verity;

use std::convert::Infallible;
use std::time::Duration;

use machine::Root;
use machine::protocol::BootFacts;

use crate::block::NoDisk;
use crate::console::{self, Console};
use crate::mount;
use crate::step::{self, Answer, Step as _};
use crate::{clock, cmdline, files, power};
use modules::Modules;
use sequence::Step;
use verity::Superblock;

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
        modules: Modules::default(),
        superblock: None,
        device: None,
        root,
    };
    for phase in sequence::sequence() {
        for step in phase.steps {
            let began = clock::since_boot();
            let mut tries = if let Answer::Retry(times) = step.answer() { times } else { 0 };
            let error = loop {
                match stage.run(step) {
                    Ok(()) => break None,
                    Err(error) if tries > 0 => {
                        tries -= 1;
                        stage.console.warning(&format!("{}: {}; trying again", step.name(), console::chain(&error)));
                        power::pause(Duration::from_secs(1));
                    }
                    Err(error) => break Some(console::chain(&error)),
                }
            };
            if let Some(error) = &error {
                let text = format!("{}: {error}", step.name());
                if step.answer() != Answer::GoOn {
                    power::restart_after(&stage.console, COUNTDOWN, &text);
                }
                stage.console.warning(&text);
            }
            stage.facts.steps.push(step::record(&step, began, clock::since_boot(), error));
        }
    }
    power::restart_after(&stage.console, COUNTDOWN, "stage 1 came to its end without a next init");
}

struct Stage1 {
    root: Root,
    console: Console,
    facts: BootFacts,
    line: cmdline::CommandLine,
    modules: Modules,
    superblock: Option<Superblock>,
    /// The verity device, once open.
    device: Option<std::path::PathBuf>,
}

impl Stage1 {
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
                self.modules.load_general(&self.console);
            }
            Step::ReadCommandLine => {
                let path = self.root.path("/proc/cmdline");
                let text = std::fs::read_to_string(&path).map_err(files::at("read", &path))?;
                self.line = cmdline::parse(&text)?;
                self.facts.root_hash = cmdline::hex(&self.line.root_hash.ok_or(Error::NoRootHash)?);
            }
            Step::FindDisk => {
                let hint = disk::hint(&self.root, &self.line);
                let disk = disk::wait(&self.root, &self.console, &hint, || self.modules.load_next_driver(&self.root, &self.console))?;
                self.facts.disk = format!("/dev/{disk}");
            }
            Step::FindSlot => {
                let hash = self.line.root_hash.ok_or(Error::Order("find the slot"))?;
                let nodes = crate::block::read(&self.root).map_err(Error::Sysfs)?;
                let entry = disk::selected_entry(&self.root);
                let (slot, superblock) = verity::find(&nodes, self.disk_name(), &hash, entry.as_deref())?;
                self.console.info(&format!("slot {} on {}", slot.name(), self.facts.disk));
                self.facts.slot = Some(slot);
                self.superblock = Some(superblock);
            }
            Step::OpenVerity => {
                let (Some(slot), Some(superblock), Some(hash)) = (self.facts.slot, &self.superblock, &self.line.root_hash) else {
                    return Err(Error::Order("open the root"));
                };
                let nodes = crate::block::read(&self.root).map_err(Error::Sysfs)?;
                self.device = Some(device_mapper::open(&self.root, &nodes, self.disk_name(), slot, superblock, hash)?);
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
                let never: Infallible = switch_root::switch(NEW_ROOT, NEXT)?;
                match never {}
            }
        }
        Ok(())
    }

    fn disk_name(&self) -> &str {
        self.facts.disk.strip_prefix("/dev/").unwrap_or(&self.facts.disk)
    }
}
