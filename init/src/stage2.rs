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
use machine::protocol::{BootFacts, ImageFacts};

use crate::cgroup::Cgroups;
use crate::console::Console;
use crate::event_loop::{Host, Init};
use crate::power;
use crate::stage1::COUNTDOWN;

/// Runs stage 2. It ends with the boot.
pub fn run() -> ! {
    let root = Root::new("/");
    let console = Console::open(&root);
    let mut facts = read_facts(&root).unwrap_or_else(|error| {
        console.warning(&format!("what stage 1 found is lost ({error}): no volume can be opened"));
        BootFacts::default()
    });
    facts.boot_id = fs::read_to_string(root.path("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned();
    if let Some(image) = image_facts(&root) {
        console.info(&format!("Corten {} ({} for {}, {})", image.version, image.profile, image.architecture, facts.disk));
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

fn read_facts(root: &Root) -> std::io::Result<BootFacts> {
    Ok(serde_json::from_slice(&fs::read(root.boot_facts())?)?)
}
