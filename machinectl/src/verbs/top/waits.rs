//! How the longest wait of each row went, from table to table.

use std::collections::{BTreeMap, VecDeque};

use dashboard::figures::longest;

use super::{Names, Row};

/// Figures that are kept and drawn of each row.
const FIGURES: usize = 20;
/// From nothing to all of the time.
const LEVELS: [char; 8] = ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];

#[derive(Debug, Default)]
pub struct Waits(BTreeMap<Names, VecDeque<Option<f64>>>);

impl Waits {
    /// What is not among the rows any more is forgotten.
    pub(super) fn note(&mut self, rows: &[Row]) {
        let mut before = std::mem::take(&mut self.0);
        for row in rows {
            let mut figures = before.remove(&row.names).unwrap_or_default();
            if figures.len() == FIGURES {
                figures.pop_front();
            }
            figures.push_back(longest(&row.pressure));
            self.0.insert(row.names.clone(), figures);
        }
    }

    /// The oldest first.
    pub(super) fn drawn(&self, row: &Row) -> String {
        let level = |share: f64| LEVELS[((share.clamp(0.0, 1.0) * 8.0) as usize).min(7)];
        self.0.get(&row.names).into_iter().flatten().map(|share| share.map_or(' ', level)).collect()
    }
}

#[cfg(test)]
mod tests {
    use api::v1::PressureShares;

    use super::*;

    fn row(name: &str, cpu_some: Option<f64>) -> Row {
        let pressure = PressureShares { cpu_some, io_some: cpu_some.map(|_| 0.0), ..Default::default() };
        Row { names: vec![("POD", name.to_owned())], pressure, ..Row::default() }
    }

    #[test]
    fn the_newest_are_drawn_and_who_is_gone_is_forgotten() {
        let mut waits = Waits::default();
        for share in [Some(0.0), None, Some(0.5), Some(1.0)] {
            waits.note(&[row("a", share), row("b", Some(0.0))]);
        }
        assert_eq!(waits.drawn(&row("a", None)), "\u{2581} \u{2585}\u{2588}");
        (0..30).for_each(|_| waits.note(&[row("a", Some(0.0))]));
        assert_eq!((waits.drawn(&row("a", None)).chars().count(), waits.0.len()), (FIGURES, 1));
    }
}
