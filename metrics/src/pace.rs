//! How often to sweep: as often as asked for, but never so often that the collector costs more than its budget.

use std::time::Duration;

/// What the collector may cost, and how fresh it tries to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// From one sweep to the next.
    pub interval: Duration,
    /// Share of one CPU, 0 to 1.
    pub budget: f64,
}

impl Default for Pace {
    fn default() -> Pace {
        // What somebody is told is a second old at the most: nine tenths of it for the wait from one sweep to the next, which nothing can shorten, and
        // one for the way to whoever asks.
        Pace { interval: Duration::from_millis(900), budget: 0.02 }
    }
}

/// However small the budget: figures older than this serve nobody.
const SLOWEST: Duration = Duration::from_secs(30);
/// Weight of the newest sweep in the mean cost: a single slow one changes little.
const NEWEST: f64 = 0.2;

/// What sweeps cost, smoothed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost(Option<f64>);

impl Cost {
    /// CPU time of the sweep just done, and of following the tree since the one before.
    pub fn add(&mut self, spent: Duration) {
        let spent = spent.as_secs_f64();
        self.0 = Some(self.0.map_or(spent, |mean| mean + NEWEST * (spent - mean)));
    }

    pub fn mean(self) -> Duration {
        Duration::from_secs_f64(self.0.unwrap_or(0.0))
    }
}

/// From the beginning of one sweep to that of the next.
pub fn interval(pace: Pace, cost: Cost) -> Duration {
    let dearest = cost.mean().as_secs_f64() / pace.budget.max(0.0001);
    pace.interval.max(Duration::from_secs_f64(dearest.min(SLOWEST.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheap_sweeps_come_as_asked_and_dear_ones_less_often() {
        let pace = Pace::default();
        let mut cost = Cost::default();
        assert_eq!(interval(pace, cost), pace.interval);
        cost.add(Duration::from_millis(5));
        assert_eq!(interval(pace, cost), pace.interval);
        for _ in 0..100 {
            cost.add(Duration::from_millis(60));
        }
        let slowed = interval(pace, cost);
        assert!(slowed > Duration::from_millis(2_990) && slowed < Duration::from_millis(3_010), "{slowed:?}");
        cost.add(Duration::from_secs(60));
        assert_eq!(interval(pace, cost), SLOWEST);
    }

    #[test]
    fn what_is_spent_stays_within_the_budget() {
        let pace = Pace { budget: 0.01, ..Pace::default() };
        let (mut cost, mut spent, mut passed) = (Cost::default(), Duration::ZERO, Duration::ZERO);
        for sweep in 0..1000u64 {
            let this = Duration::from_micros(10_000 + sweep % 7 * 3_000);
            cost.add(this);
            spent += this;
            passed += interval(pace, cost);
        }
        assert!(spent.as_secs_f64() / passed.as_secs_f64() < 0.011);
    }
}
