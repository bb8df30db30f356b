//! The order of stage 2, up to the moment where the agent takes over.

use machine::disk::Volume;
use machine::protocol::BootFacts;

use crate::mount::{self, Mount};
use crate::step::{Answer, Phase, Step as Described};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Mount(Mount),
    FillEtc,
    FillVar,
    LinkDevices,
    ShareMounts,
    PrepareCgroups,
    SetSysctls,
    RaiseLoopback,
    SetClock,
    LoadDrivers,
    OpenWatchdog,
    Listen,
    FixPartitionTable,
    /// Comes to its end in the event loop: mkfs or a check may run.
    OpenVolume(Volume),
    SetSavedClock,
    MachineId,
    RandomSeed,
    /// Comes to its end in the event loop, with a watchdog or when it is clear that there is none.
    AwaitWatchdog,
    StartAgent,
}

/// Stage 2 of a machine. Without a disk nothing is kept; the agent still comes up and says so.
pub fn sequence(facts: &BootFacts) -> Vec<Phase<Step>> {
    let mut phases = vec![
        Phase {
            name: "file systems",
            steps: mount::STAGE1
                .into_iter()
                .chain(mount::STAGE2)
                .map(Step::Mount)
                .chain([Step::FillEtc, Step::FillVar, Step::LinkDevices, Step::ShareMounts])
                .collect(),
        },
        Phase {
            name: "kernel",
            // Drivers first: modprobe runs beside the rest.
            steps: vec![
                Step::Mount(mount::CGROUPS),
                Step::PrepareCgroups,
                Step::LoadDrivers,
                Step::SetSysctls,
                Step::RaiseLoopback,
                Step::SetClock,
                Step::OpenWatchdog,
            ],
        },
        Phase { name: "requests", steps: vec![Step::Listen] },
    ];
    if !facts.disk.is_empty() {
        phases.push(Phase { name: "disk", steps: vec![Step::FixPartitionTable, Step::OpenVolume(Volume::State)] });
    }
    phases.push(Phase { name: "identity", steps: vec![Step::SetSavedClock, Step::MachineId, Step::RandomSeed] });
    // What hangs while an image is on trial must end: nothing but init runs before the watchdog does.
    let guarded = facts.counted.then_some(Step::AwaitWatchdog);
    phases.push(Phase { name: "agent", steps: guarded.into_iter().chain([Step::StartAgent]).collect() });
    phases
}

impl Described for Step {
    fn name(&self) -> String {
        match self {
            Step::Mount(mount) => return format!("mount {} ({})", mount.target, mount.kind),
            Step::FillEtc => "copy the templates of /etc",
            Step::FillVar => "make the directories of /var",
            Step::LinkDevices => "link /dev/fd and the standard streams",
            Step::ShareMounts => "share mounts with the namespaces of services",
            Step::PrepareCgroups => "make the cgroup tree",
            Step::SetSysctls => "set the kernel's settings",
            Step::RaiseLoopback => "raise the loopback link",
            Step::SetClock => "set the clock by RTC and build time",
            Step::LoadDrivers => "start loading the drivers of all devices",
            Step::OpenWatchdog => "arm the watchdog",
            Step::Listen => "listen for the agent",
            Step::FixPartitionTable => "make the partition table whole, unique and full size",
            Step::OpenVolume(Volume::State) => "open STATE",
            Step::OpenVolume(Volume::Etcd) => "open ETCD",
            Step::OpenVolume(Volume::Ephemeral) => "open EPHEMERAL",
            Step::SetSavedClock => "set the clock by the time saved on STATE",
            Step::MachineId => "make or read the machine-id",
            Step::RandomSeed => "replace and credit the random seed",
            Step::AwaitWatchdog => "wait for the watchdog",
            Step::StartAgent => "start the agent",
        }
        .to_owned()
    }

    fn answer(&self) -> Answer {
        match self {
            Step::Mount(mount) if mount.needed => Answer::Restart,
            // Without these no service, or no agent to ask, can run.
            Step::PrepareCgroups | Step::Listen | Step::StartAgent => Answer::Restart,
            // The agent comes up without them and shows what is wrong.
            Step::Mount(_)
            | Step::FillEtc
            | Step::FillVar
            | Step::LinkDevices
            | Step::ShareMounts
            | Step::SetSysctls
            | Step::RaiseLoopback
            | Step::SetClock
            | Step::LoadDrivers
            | Step::OpenWatchdog
            | Step::FixPartitionTable
            | Step::OpenVolume(_)
            | Step::SetSavedClock
            | Step::MachineId
            | Step::RandomSeed
            | Step::AwaitWatchdog => Answer::GoOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_golden() {
        let facts = BootFacts { disk: "/dev/vda".into(), ..BootFacts::default() };
        crate::golden::check("stage2/golden/sequence.txt", &crate::golden::sequence(&sequence(&facts)));
        let on_trial = BootFacts { counted: true, ..facts };
        crate::golden::check("stage2/golden/sequence-on-trial.txt", &crate::golden::sequence(&sequence(&on_trial)));
        crate::golden::check("stage2/golden/sequence-without-disk.txt", &crate::golden::sequence(&sequence(&BootFacts::default())));
    }
}
