//! Milestones of a boot, and how long the machine took from one to the next.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

/// Seconds since kernel entry at which something was reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Milestone {
    pub name: String,
    pub at: f64,
}

impl Milestone {
    pub fn new(name: &str, at: f64) -> Milestone {
        Milestone { name: name.to_owned(), at }
    }
}

/// When init's stages ended, from its steps (name, began, took). What stage 1 does after it mounted the root, it cannot tell stage 2 of.
pub fn stages(steps: &[(&str, Duration, Duration)]) -> Vec<Milestone> {
    let ends = |step: &(&str, Duration, Duration)| (step.1 + step.2).as_secs_f64();
    let mut seen = Vec::new();
    if let Some(first) = steps.first() {
        seen.push(Milestone::new("init, stage 1, begins", first.1.as_secs_f64()));
    }
    if let Some(mount) = steps.iter().rev().find(|step| step.0.starts_with("mount the root")) {
        seen.push(Milestone::new("init, stage 1, ends", ends(mount)));
    }
    if let Some(last) = steps.last() {
        seen.push(Milestone::new("init, stage 2, ends", ends(last)));
    }
    seen
}

/// A line each: when, how long after the one before, what.
pub fn table(milestones: &[Milestone]) -> String {
    let mut text = String::from("      at    after\n");
    let mut before = None;
    for milestone in milestones {
        let after = before.map_or(String::new(), |before: f64| format!("{:+.1}", milestone.at - before));
        let _ = writeln!(text, "{:7.1} s {after:>8}  {}", milestone.at, milestone.name);
        before = Some(milestone.at);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn stages_are_told_apart() {
        let steps = [
            ("mount /proc (proc)", seconds(2), seconds(0)),
            ("mount the root (erofs)", seconds(3), seconds(1)),
            ("mount /proc (proc)", seconds(5), seconds(0)),
            ("start the agent", seconds(6), seconds(1)),
        ];
        let seen: Vec<(String, f64)> = stages(&steps).into_iter().map(|milestone| (milestone.name, milestone.at)).collect();
        let expected = [("init, stage 1, begins", 2.0), ("init, stage 1, ends", 4.0), ("init, stage 2, ends", 7.0)];
        assert_eq!(seen, expected.map(|(name, at)| (name.to_owned(), at)));
        assert_eq!(stages(&[]), []);
    }

    #[test]
    fn each_line_says_how_long_after_the_last() {
        let text = table(&[Milestone::new("kernel", 0.0), Milestone::new("agent", 4.25)]);
        assert_eq!(text.lines().last(), Some("    4.2 s     +4.2  agent"));
    }
}
