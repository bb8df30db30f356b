//! A service as init knows it, and what init tells about it.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::service::{Exit, Restart, ServiceId, ServiceSpec, ServiceState, ServiceStatus};

use super::readiness::Watch;
use super::state::{Ending, State};

#[derive(Debug)]
pub struct Service {
    pub spec: ServiceSpec,
    /// The spec that takes over once the running process has ended.
    pub next_spec: Option<Box<ServiceSpec>>,
    pub state: State,
    pub pid: Option<u32>,
    pub restarts: u32,
    pub last_exit: Option<Exit>,
    /// When the state last changed.
    pub since: Duration,
    /// When the running process was started.
    pub started: Duration,
    /// The last wait before a restart.
    pub backoff: Duration,
    /// End of the wait, or of the patience with a stop.
    pub deadline: Option<Duration>,
    /// How readiness is noticed, while it is not.
    pub readiness: Option<Watch>,
    /// What was told last.
    pub told: Option<ServiceStatus>,
}

impl Service {
    pub fn new(spec: ServiceSpec, now: Duration) -> Service {
        Service {
            spec,
            next_spec: None,
            state: State::Stopped,
            pid: None,
            restarts: 0,
            last_exit: None,
            since: now,
            started: now,
            backoff: Duration::ZERO,
            deadline: None,
            readiness: None,
            told: None,
        }
    }

    /// The spec that counts: of a service that is being replaced, the new one.
    pub fn wanted_spec(&self) -> &ServiceSpec {
        self.next_spec.as_deref().unwrap_or(&self.spec)
    }
}

pub type Services = BTreeMap<ServiceId, Service>;

/// The services of `after` that are not ready.
pub fn missing(services: &Services, id: &ServiceId) -> Vec<ServiceId> {
    let ready = |id: &ServiceId| services.get(id).is_some_and(|service| service.state == State::Ready);
    services.get(id).map(|service| service.spec.after.iter().filter(|id| !ready(id)).cloned().collect()).unwrap_or_default()
}

/// What init tells about a service.
pub fn status(services: &Services, id: &ServiceId) -> Option<ServiceStatus> {
    let service = services.get(id)?;
    let state = match service.state {
        State::Stopped | State::Removed => ServiceState::Stopped,
        State::Waiting => ServiceState::Waiting { after: missing(services, id) },
        State::Starting => ServiceState::Starting,
        State::Ready => ServiceState::Ready,
        State::Stopping(_) | State::Killing(_) => ServiceState::Stopping,
        State::Backoff => ServiceState::Backoff { retry_in: service.backoff },
        State::Ended => ServiceState::Ended,
    };
    Some(ServiceStatus {
        id: id.clone(),
        state,
        pid: service.pid,
        restarts: service.restarts,
        last_exit: service.last_exit,
        since_boot: service.since,
    })
}

/// The wait before the next start: twice the last one, and the shortest again once the service has been up for the longest.
pub fn backoff(last: Duration, up: Duration, restart: &Restart) -> Duration {
    if last.is_zero() || up >= restart.backoff_max {
        return restart.backoff_min;
    }
    last.saturating_mul(2).clamp(restart.backoff_min, restart.backoff_max.max(restart.backoff_min))
}

pub fn ending(exit: Exit) -> Ending {
    match exit {
        Exit::Code(0) => Ending::Clean,
        Exit::Code(_) | Exit::Signal(_) | Exit::Exec(_) => Ending::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::service::RestartPolicy;

    #[test]
    fn backoff_doubles_to_its_end_and_starts_over_after_a_long_run() {
        let second = Duration::from_secs(1);
        let restart = Restart { policy: RestartPolicy::Always, backoff_min: second, backoff_max: second * 5 };
        let waits: Vec<Duration> = (0..5)
            .scan(Duration::ZERO, |last, _| {
                *last = backoff(*last, second, &restart);
                Some(*last)
            })
            .collect();
        assert_eq!(waits, [second, second * 2, second * 4, second * 5, second * 5]);
        assert_eq!(backoff(second * 5, second * 5, &restart), second);
        let odd = Restart { backoff_max: Duration::ZERO, ..restart };
        assert_eq!(backoff(second, Duration::ZERO, &odd), second, "a maximum below the minimum is no panic");
    }
}
