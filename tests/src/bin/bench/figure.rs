//! A figure: what was measured, of us and of a peer, and what is aimed at.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::samples::Samples;

/// What one benchmark found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub figures: Vec<Figure>,
    /// How it was measured and what else was seen, for people.
    pub notes: Vec<String>,
    /// The same for programs.
    pub details: Value,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    pub name: String,
    pub unit: Unit,
    pub ours: Samples,
    pub peer: Option<Samples>,
    pub goal: Goal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    Seconds,
    Microseconds,
    /// 10^6 bytes, as packages and disks count.
    Megabytes,
    /// 2^20 bytes, as the kernel counts memory.
    Mebibytes,
    RequestsPerCpuSecond,
    GigabitsPerSecond,
    /// 10^6 bytes.
    MegabytesPerSecond,
    Percent,
    Count,
}

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    AtMost(f64),
    /// Ours divided by the peer's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// Shown for comparison.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    FallsShort,
    None,
}

impl Figure {
    /// A figure without a peer.
    pub fn alone(name: impl Into<String>, unit: Unit, ours: Samples, goal: Goal) -> Figure {
        Figure { name: name.into(), unit, ours, peer: None, goal }
    }

    pub fn beside(name: impl Into<String>, unit: Unit, ours: Samples, peer: Samples, goal: Goal) -> Figure {
        Figure { name: name.into(), unit, ours, peer: Some(peer), goal }
    }

    pub fn ratio(&self) -> Option<f64> {
        Some(self.ours.median() / self.peer.as_ref()?.median())
    }

    pub fn verdict(&self) -> Verdict {
        let met = match (self.goal, self.ratio()) {
            (Goal::AtMost(limit), _) => self.ours.median() <= limit,
            (Goal::RatioAtMost(limit), Some(ratio)) => ratio <= limit,
            (Goal::RatioAtLeast(limit), Some(ratio)) => ratio >= limit,
            (Goal::RatioAtMost(_) | Goal::RatioAtLeast(_), None) => false,
            (Goal::None, _) => return Verdict::None,
        };
        if met { Verdict::Met } else { Verdict::FallsShort }
    }

    fn cells(&self) -> [String; 6] {
        let goal = match self.goal {
            Goal::AtMost(limit) => format!("<= {}", self.unit.show(limit)),
            Goal::RatioAtMost(limit) => format!("<= {limit}x"),
            Goal::RatioAtLeast(limit) => format!(">= {limit}x"),
            Goal::None => String::new(),
        };
        let peer = self.peer.as_ref().map(|peer| self.shown(peer)).unwrap_or_default();
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}x")).unwrap_or_default();
        [self.name.clone(), self.shown(&self.ours), peer, ratio, goal, self.verdict().to_string()]
    }

    fn shown(&self, samples: &Samples) -> String {
        let (least, most) = samples.range();
        let median = self.unit.show(samples.median());
        if samples.len() > 1 { format!("{median} ({}-{})", self.unit.number(least), self.unit.number(most)) } else { median }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        let name = match self {
            Unit::Seconds => "s",
            Unit::Microseconds => "us",
            Unit::Megabytes => "MB",
            Unit::Mebibytes => "MiB",
            Unit::RequestsPerCpuSecond => "/s",
            Unit::GigabitsPerSecond => "Gbit/s",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::Percent => "%",
            Unit::Count => "",
        };
        format!("{} {name}", self.number(value)).trim_end().to_owned()
    }

    fn number(self, value: f64) -> String {
        match self {
            Unit::Seconds | Unit::Megabytes | Unit::Mebibytes | Unit::GigabitsPerSecond => format!("{value:.2}"),
            Unit::Percent => format!("{value:.1}"),
            Unit::Microseconds | Unit::RequestsPerCpuSecond | Unit::MegabytesPerSecond | Unit::Count => format!("{value:.0}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Met => "met",
            Verdict::FallsShort => "falls short",
            Verdict::None => "",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = ["figure", "ours", "peer", "ratio", "goal", "verdict"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(headings).chain(self.figures.iter().map(Figure::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        for row in &rows {
            let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let mut samples = Samples::default();
        values.iter().for_each(|value| samples.push(*value));
        samples
    }

    #[test]
    fn a_goal_is_judged_by_the_medians() {
        let figure = |goal| Figure::beside("boot", Unit::Seconds, samples(&[3.0, 2.0, 9.0]), samples(&[10.0]), goal);
        assert_eq!(figure(Goal::RatioAtMost(0.3)).verdict(), Verdict::Met);
        assert_eq!(figure(Goal::RatioAtMost(0.29)).verdict(), Verdict::FallsShort);
        assert_eq!(figure(Goal::RatioAtLeast(0.31)).verdict(), Verdict::FallsShort);
        assert_eq!(figure(Goal::AtMost(3.0)).verdict(), Verdict::Met);
        assert_eq!(figure(Goal::None).verdict(), Verdict::None);
    }

    #[test]
    fn what_was_not_measured_meets_no_goal() {
        let none = Figure::alone("boot", Unit::Seconds, Samples::default(), Goal::AtMost(1.0));
        assert_eq!(none.verdict(), Verdict::FallsShort);
        let alone = Figure::alone("boot", Unit::Seconds, samples(&[1.0]), Goal::RatioAtMost(0.5));
        assert_eq!(alone.verdict(), Verdict::FallsShort);
    }

    #[test]
    fn the_table_shows_median_range_and_verdict() {
        let figures = vec![
            Figure::beside("boot", Unit::Seconds, samples(&[3.0, 2.0, 9.0]), samples(&[10.0]), Goal::RatioAtMost(0.35)),
            Figure::alone("init", Unit::Megabytes, samples(&[2.5]), Goal::AtMost(2.0)),
        ];
        let table = Outcome { figures, notes: vec!["a note".to_owned()], details: Value::Null }.to_string();
        let expected = "figure  ours              peer     ratio  goal        verdict\n\
                        boot    3.00 s (2.00-9.00)  10.00 s  0.30x  <= 0.35x    met\n\
                        init    2.50 MB                             <= 2.00 MB  falls short\na note\n";
        assert_eq!(words(&table), words(expected), "{table}");
    }

    fn words(text: &str) -> Vec<&str> {
        text.split_whitespace().collect()
    }
}
