//! The order of stage 1.

use crate::mount::{self, Mount};
use crate::step::{Answer, Phase, Step as Described};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Mount(Mount),
    LoadModules,
    ReadCommandLine,
    FindDisk,
    FindSlot,
    OpenVerity,
    MountRoot,
    WriteFacts,
    SwitchRoot,
}

/// Stage 1, from the kernel's first program to the init of the root.
pub fn sequence() -> Vec<Phase<Step>> {
    vec![
        Phase { name: "kernel interfaces", steps: mount::STAGE1.map(Step::Mount).to_vec() },
        // efivarfs is a module.
        Phase { name: "modules", steps: vec![Step::LoadModules, Step::Mount(mount::EFI_VARIABLES)] },
        Phase { name: "disk", steps: vec![Step::ReadCommandLine, Step::FindDisk] },
        Phase { name: "root", steps: vec![Step::FindSlot, Step::OpenVerity, Step::MountRoot] },
        Phase { name: "hand over", steps: vec![Step::WriteFacts, Step::SwitchRoot] },
    ]
}

impl Described for Step {
    fn name(&self) -> String {
        match self {
            Step::Mount(mount) => format!("mount {} ({})", mount.target, mount.kind),
            Step::LoadModules => "load the modules that every machine needs".to_owned(),
            Step::ReadCommandLine => "read the kernel command line".to_owned(),
            Step::FindDisk => "find the disk that was booted, loading its driver".to_owned(),
            Step::FindSlot => "find the slot with the root hash".to_owned(),
            Step::OpenVerity => "open the root through dm-verity".to_owned(),
            Step::MountRoot => "mount the root (erofs)".to_owned(),
            Step::WriteFacts => "write what was found for stage 2".to_owned(),
            Step::SwitchRoot => "switch to the root and start its init".to_owned(),
        }
    }

    fn answer(&self) -> Answer {
        match self {
            Step::Mount(mount) if mount.needed => Answer::Restart,
            // A missing module shows where it is needed.
            Step::Mount(_) | Step::LoadModules => Answer::GoOn,
            // FindDisk waits by itself.
            Step::ReadCommandLine | Step::FindDisk | Step::WriteFacts | Step::SwitchRoot => Answer::Restart,
            // A disk may answer with an error once.
            Step::FindSlot | Step::OpenVerity | Step::MountRoot => Answer::Retry(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_golden() {
        crate::golden::check("stage1/golden/sequence.txt", &crate::golden::sequence(&sequence()));
    }
}
