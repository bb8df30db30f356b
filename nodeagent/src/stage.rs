//! The machine's stage in life: which event leads from which stage to which.

use machine::stage::Stage;

/// What may change the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageEvent {
    /// A config passed every check and is in force: at boot, or applied.
    ConfigInForce,
    /// The machine has an identity, but no generation of its config can be used.
    ConfigUnusable,
    /// Every health check passes.
    Healthy,
    /// A disk is being laid out and filled.
    InstallBegan,
    /// The disk is as it is; the config may be applied again.
    InstallFailed,
    /// The slot that was written is read back; what comes of it decides whether the machine reboots.
    UpgradeBegan,
    /// The machine goes on as before, or reboots.
    UpgradeEnded {
        before: Stage,
    },
    ResetAsked,
    RebootAsked,
    ShutdownAsked,
    /// init did not do what was asked: the machine stays up, in the stage from before.
    PowerRefused {
        before: Stage,
    },
}

impl StageEvent {
    #[cfg(test)]
    const ALL: [StageEvent; 11] = [
        StageEvent::ConfigInForce,
        StageEvent::ConfigUnusable,
        StageEvent::Healthy,
        StageEvent::InstallBegan,
        StageEvent::InstallFailed,
        StageEvent::UpgradeBegan,
        StageEvent::UpgradeEnded { before: Stage::Running },
        StageEvent::ResetAsked,
        StageEvent::RebootAsked,
        StageEvent::ShutdownAsked,
        StageEvent::PowerRefused { before: Stage::Running },
    ];
}

/// The stage after the event. Golden: golden/stages.txt.
pub fn next(stage: Stage, event: StageEvent) -> Stage {
    use Stage::{Booting, Installing, Maintenance, Rebooting, Recovery, Resetting, Running, ShuttingDown, Upgrading};
    use StageEvent::{
        ConfigInForce, ConfigUnusable, Healthy, InstallBegan, InstallFailed, PowerRefused, RebootAsked, ResetAsked, ShutdownAsked,
        UpgradeBegan, UpgradeEnded,
    };
    match (stage, event) {
        (Maintenance | Installing | Recovery, ConfigInForce) => Booting,
        (Booting | Running | Upgrading, ConfigInForce) => stage,
        (Maintenance | Booting | Recovery, ConfigUnusable) => Recovery,
        (Installing | Running | Upgrading, ConfigUnusable) => stage,
        (Booting, Healthy) => Running,
        (Maintenance | Installing | Running | Recovery | Upgrading, Healthy) => stage,
        (Maintenance, InstallBegan) => Installing,
        (Installing, InstallFailed) => Maintenance,
        (Installing | Booting | Running | Recovery | Upgrading, InstallBegan) => stage,
        (Maintenance | Booting | Running | Recovery | Upgrading, InstallFailed) => stage,
        (Booting | Running, UpgradeBegan) => Upgrading,
        (Upgrading, UpgradeEnded { before }) => before,
        (Maintenance | Installing | Recovery | Upgrading, UpgradeBegan) => stage,
        (Maintenance | Installing | Booting | Running | Recovery, UpgradeEnded { .. }) => stage,
        (Maintenance | Installing | Booting | Running | Recovery | Upgrading, ResetAsked) => Resetting,
        (Maintenance | Installing | Booting | Running | Recovery | Upgrading, RebootAsked) => Rebooting,
        (Maintenance | Installing | Booting | Running | Recovery | Upgrading, ShutdownAsked) => ShuttingDown,
        (Maintenance | Installing | Booting | Running | Recovery | Upgrading, PowerRefused { .. }) => stage,
        // The way down has one direction, except where init did not take it.
        (Resetting | Rebooting | ShuttingDown, PowerRefused { before }) => before,
        (
            Resetting | Rebooting | ShuttingDown,
            ConfigInForce
            | ConfigUnusable
            | Healthy
            | InstallBegan
            | InstallFailed
            | UpgradeBegan
            | UpgradeEnded { .. }
            | ResetAsked
            | RebootAsked
            | ShutdownAsked,
        ) => stage,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn table() {
        let mut table = String::new();
        for stage in Stage::ALL {
            for event in StageEvent::ALL {
                let to = next(stage, event);
                let to = if to == stage { "-" } else { to.name() };
                writeln!(table, "{:<13} {:<34} {to}", stage.name(), format!("{event:?}")).unwrap();
            }
        }
        crate::golden::check("src/golden/stages.txt", &table);
    }
}
