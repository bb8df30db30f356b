//! The order of a shutdown. Every step ends by its deadline, all together within two minutes; none is given up for another's failure.

use std::time::Duration;

use machine::disk::Volume;
use machine::protocol::PowerAction;

use crate::step::{Answer, Phase, Step as Described};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    StopServices,
    TerminateRest,
    KillRest,
    SaveClock,
    Record,
    Unmount,
    Wipe(Volume),
    Sync,
    End(PowerAction),
}

pub fn sequence(action: PowerAction, wipe: &[Volume]) -> Vec<Phase<Step>> {
    let mut wipe = wipe.to_vec();
    wipe.sort_unstable();
    wipe.dedup();
    vec![
        Phase { name: "processes", steps: vec![Step::StopServices, Step::TerminateRest, Step::KillRest] },
        Phase {
            name: "volumes",
            steps: [Step::SaveClock, Step::Record, Step::Unmount].into_iter().chain(wipe.into_iter().map(Step::Wipe)).collect(),
        },
        Phase { name: "end", steps: vec![Step::Sync, Step::End(action)] },
    ]
}

impl Step {
    /// How long it may wait for others.
    pub fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Step::StopServices => 60,
            Step::TerminateRest => 20,
            Step::KillRest => 10,
            Step::Unmount => 20,
            Step::SaveClock | Step::Record | Step::Wipe(_) | Step::Sync | Step::End(_) => 0,
        })
    }

    /// In short, for the console.
    pub fn text(self) -> String {
        match self {
            Step::StopServices => "stopping services".to_owned(),
            Step::TerminateRest => "stopping pods".to_owned(),
            Step::KillRest => "killing what is left".to_owned(),
            Step::SaveClock => "saving clock and random seed".to_owned(),
            Step::Record => "writing down why this boot ends".to_owned(),
            Step::Unmount => "unmounting volumes".to_owned(),
            Step::Wipe(volume) => format!("wiping {}", volume.partition().label()),
            Step::Sync => "flushing disks".to_owned(),
            Step::End(PowerAction::Reboot) => "restarting".to_owned(),
            Step::End(PowerAction::PowerOff) => "switching off".to_owned(),
        }
    }
}

impl Described for Step {
    fn name(&self) -> String {
        let patience = self.patience().as_secs();
        if patience == 0 { self.text() } else { format!("{} (at most {patience} s)", self.text()) }
    }

    fn answer(&self) -> Answer {
        Answer::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_golden() {
        let wipe = [Volume::Ephemeral, Volume::State, Volume::State];
        let text = format!(
            "reboot\n\n{}\npower off, STATE and EPHEMERAL wiped\n\n{}",
            crate::golden::sequence(&sequence(PowerAction::Reboot, &[])),
            crate::golden::sequence(&sequence(PowerAction::PowerOff, &wipe))
        );
        crate::golden::check("shutdown/golden/sequence.txt", &text);
    }

    #[test]
    fn all_steps_together_stay_within_two_minutes() {
        let steps = sequence(PowerAction::Reboot, &Volume::ALL).into_iter().flat_map(|phase| phase.steps);
        assert!(steps.map(Step::patience).sum::<Duration>() <= Duration::from_secs(120));
    }
}
