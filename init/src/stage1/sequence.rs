//! The order of stage 1.

use machine::protocol::Medium;

use crate::mount::{self, Mount};
use crate::step::{Answer, Phase, Step as Described};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Mount(Mount),
    LoadModules,
    ArmWatchdog,
    ReadCommandLine,
    DecideMedium,
    FindDisk,
    FindSlot,
    LoadMediumModules,
    FindIso,
    KeepInitramfs,
    AttachImages,
    OpenVerity,
    MountRoot,
    WriteFacts,
    SwitchRoot,
}

/// From the kernel's first program to knowing what was booted.
pub fn opening() -> Vec<Phase<Step>> {
    vec![
        Phase { name: "kernel interfaces", steps: mount::STAGE1.map(Step::Mount).to_vec() },
        // efivarfs is a module.
        Phase { name: "modules", steps: vec![Step::LoadModules, Step::ArmWatchdog, Step::Mount(mount::EFI_VARIABLES)] },
        Phase { name: "medium", steps: vec![Step::ReadCommandLine, Step::DecideMedium] },
    ]
}

/// From there to the init of the root.
pub fn closing(medium: Medium) -> Vec<Phase<Step>> {
    let to_the_root = match medium {
        Medium::Disk => vec![
            Phase { name: "disk", steps: vec![Step::FindDisk] },
            Phase { name: "root", steps: vec![Step::FindSlot, Step::OpenVerity, Step::MountRoot] },
        ],
        Medium::Iso => vec![
            Phase { name: "installation medium", steps: vec![Step::LoadMediumModules, Step::FindIso] },
            Phase { name: "root", steps: vec![Step::AttachImages, Step::OpenVerity, Step::MountRoot] },
        ],
        Medium::Network => vec![
            Phase { name: "initramfs", steps: vec![Step::LoadMediumModules, Step::KeepInitramfs] },
            Phase { name: "root", steps: vec![Step::AttachImages, Step::OpenVerity, Step::MountRoot] },
        ],
    };
    let hand_over = Phase { name: "hand over", steps: vec![Step::WriteFacts, Step::SwitchRoot] };
    to_the_root.into_iter().chain([hand_over]).collect()
}

impl Described for Step {
    fn name(&self) -> String {
        match self {
            Step::Mount(mount) => return format!("mount {} ({})", mount.target, mount.kind),
            Step::LoadModules => "load the modules that every machine needs",
            Step::ArmWatchdog => "arm the watchdog for what follows",
            Step::ReadCommandLine => "read the kernel command line",
            Step::DecideMedium => "ask the boot loader what was booted",
            Step::FindDisk => "find the disk that was booted, loading its driver",
            Step::FindSlot => "find the slot with the root hash",
            Step::LoadMediumModules => "load the modules that a root in files needs",
            Step::FindIso => "find the medium with the root, loading its driver",
            Step::KeepInitramfs => "keep the files that came with the initramfs",
            Step::AttachImages => "attach root and hash tree to loop devices",
            Step::OpenVerity => "open the root through dm-verity",
            Step::MountRoot => "mount the root (erofs)",
            Step::WriteFacts => "write what was found for stage 2",
            Step::SwitchRoot => "switch to the root and start its init",
        }
        .to_owned()
    }

    fn answer(&self) -> Answer {
        match self {
            Step::Mount(mount) if mount.needed => Answer::Restart,
            // A missing module shows where it is needed.
            Step::Mount(_) | Step::LoadModules | Step::ArmWatchdog | Step::LoadMediumModules => Answer::GoOn,
            // FindDisk and FindIso wait by themselves.
            Step::ReadCommandLine
            | Step::DecideMedium
            | Step::FindDisk
            | Step::FindIso
            | Step::KeepInitramfs
            | Step::WriteFacts
            | Step::SwitchRoot => Answer::Restart,
            // A disk may answer with an error once.
            Step::FindSlot | Step::AttachImages | Step::OpenVerity | Step::MountRoot => Answer::Retry(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_golden() {
        let mut text = crate::golden::sequence(&opening());
        for (what, medium) in [("a disk", Medium::Disk), ("the ISO image", Medium::Iso), ("the network", Medium::Network)] {
            text.push_str(&format!("\nbooted from {what}\n\n{}", crate::golden::sequence(&closing(medium))));
        }
        crate::golden::check("stage1/golden/sequence.txt", &text);
    }

    /// The boot loader counts a boot that does not come up only if the machine restarts: nothing that the root hangs on is passed over.
    #[test]
    fn a_root_that_cannot_be_used_ends_in_a_restart() {
        for medium in [Medium::Disk, Medium::Iso, Medium::Network] {
            let steps = opening().into_iter().chain(closing(medium)).flat_map(|phase| phase.steps);
            let passed_over: Vec<Step> = steps.filter(|step| step.answer() == Answer::GoOn).collect();
            let harmless = |step: &Step| {
                matches!(step, Step::LoadModules | Step::ArmWatchdog | Step::LoadMediumModules | Step::Mount(mount::EFI_VARIABLES))
            };
            assert!(passed_over.iter().all(harmless), "{passed_over:?}");
            assert_eq!(closing(medium).pop().and_then(|mut last| last.steps.pop()), Some(Step::SwitchRoot));
        }
    }
}
