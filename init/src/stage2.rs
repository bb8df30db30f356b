//! Stage 2: init in the verified root. It prepares what services need, opens STATE, starts the agent, and turns its event loop until the
//! shutdown.

pub mod agent;
pub mod drivers;
pub mod etc;
pub mod identity;
pub mod sequence;
pub mod sysctl;

use std::fs;

use machine::Root;
use machine::protocol::{BootFacts, ImageFacts, Medium};

use crate::cgroup::Cgroups;
use crate::console::Console;
use crate::event_loop::{Host, Init};
use crate::loader;
use crate::power;
use crate::stage1::COUNTDOWN;

/// Runs stage 2. It ends with the boot.
pub fn run() -> ! {
    let root = Root::new("/");
    let console = Console::open(&root);
    let mut facts = read_facts(&root).unwrap_or_else(|error| {
        console.warning(&format!("what stage 1 found is lost ({error}): no volume can be opened"));
        // A boot that is counted stays on trial: without its volumes nobody vouches for it, and the other slot gets its turn.
        let loader = loader::read(&root);
        BootFacts { entry: loader.entry.unwrap_or_default(), counted: loader.counted, ..BootFacts::default() }
    });
    facts.boot_id = fs::read_to_string(root.path("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned();
    if let Some(image) = image_facts(&root) {
        let from = match facts.medium {
            Medium::Disk => facts.disk.as_str(),
            Medium::Iso => "installation medium",
            Medium::Network => "from the network",
        };
        console.info(&format!("Corten {} ({} for {}, {from})", image.version, image.profile, image.architecture));
    }
    if facts.counted {
        console.info(&format!("this image is on trial (entry {}): it must be proven good, or the machine restarts", facts.entry));
    }
    let sequence = sequence::sequence(&facts);
    let cgroups = Cgroups::at(root.path(crate::mount::CGROUPS.target));
    match Init::new(root, Host::Machine, Console::open(&Root::new("/")), cgroups, facts) {
        Ok(mut init) => {
            init.boot(sequence);
            init.run()
        }
        Err(error) => power::restart_after(&console, COUNTDOWN, &format!("the event loop cannot start: {error}")),
    }
}

/// What the image says of itself.
pub fn image_facts(root: &Root) -> Option<ImageFacts> {
    serde_json::from_slice(&fs::read(root.image_facts()).ok()?).ok()
}

/// What stage 1 found.
pub fn read_facts(root: &Root) -> std::io::Result<BootFacts> {
    Ok(serde_json::from_slice(&fs::read(root.boot_facts())?)?)
}
