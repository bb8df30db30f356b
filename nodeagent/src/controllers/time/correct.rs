//! Decides how the clock is corrected.

use std::time::Duration;

/// What to do about an offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Correction {
    /// Set the clock forward (or, negative, back) by these seconds.
    Step(f64),
    /// Let it run faster or slower until the next poll.
    Slew { parts_per_million: f64 },
}

/// Offsets beyond this are stepped: the limit of ntpd.
const STEP_SECONDS: f64 = 0.128;
/// The kernel's limit for a frequency correction.
const SLEW_LIMIT: f64 = 500.0;

/// `offset` is how many seconds the clock is behind. While etcd runs, the clock never goes back: it is slowed down instead.
pub fn correction(offset: f64, etcd_runs: bool, until_next_poll: Duration) -> Correction {
    let may_step = offset > 0.0 || !etcd_runs;
    if offset.abs() > STEP_SECONDS && may_step {
        return Correction::Step(offset);
    }
    let parts_per_million = (offset / until_next_poll.as_secs_f64() * 1e6).clamp(-SLEW_LIMIT, SLEW_LIMIT);
    Correction::Slew { parts_per_million }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(64);

    #[test]
    fn a_clock_far_behind_is_stepped_forward_whatever_runs() {
        for etcd_runs in [false, true] {
            assert_eq!(correction(86_400.0, etcd_runs, POLL), Correction::Step(86_400.0));
        }
    }

    #[test]
    fn a_clock_ahead_goes_back_only_while_etcd_does_not_run() {
        assert_eq!(correction(-86_400.0, false, POLL), Correction::Step(-86_400.0));
        assert_eq!(correction(-86_400.0, true, POLL), Correction::Slew { parts_per_million: -500.0 });
    }

    #[test]
    fn a_small_offset_is_gone_by_the_next_poll() {
        assert_eq!(correction(0.016, false, POLL), Correction::Slew { parts_per_million: 250.0 });
    }
}
