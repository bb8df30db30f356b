//! Carries out what the supervisor's state machine decides.

use std::time::Duration;

use machine::protocol::Event as Told;
use machine::service::{Exit, ServiceId, ServiceSpec, Slice, StopScope};
use nix::libc;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{Child, Init};
use crate::process::{self, Surroundings};
use crate::supervisor::readiness::{self, Watch};
use crate::supervisor::service::{self, Service};
use crate::supervisor::state::{Effect, Ending, Event, State, Then, next};
use crate::{clock, console};

/// After SIGKILL a process is gone as soon as the kernel lets go of it; then it is sent again.
const KILL_AGAIN: Duration = Duration::from_secs(5);

impl Init {
    /// Makes a service known, or replaces what is known of it.
    pub(super) fn put_service(&mut self, spec: ServiceSpec) {
        let id = spec.id.clone();
        let being_removed = |state| matches!(state, State::Stopping(Then::Remove) | State::Killing(Then::Remove));
        match self.services.get_mut(&id) {
            None => {
                self.services.insert(id.clone(), Service::new(spec, clock::since_boot()));
                self.service_event(&id, Event::Start);
            }
            Some(known) if being_removed(known.state) => {
                known.next_spec = Some(Box::new(spec));
                self.service_event(&id, Event::Start);
            }
            Some(known) if *known.wanted_spec() == spec => {}
            Some(known) => {
                known.next_spec = Some(Box::new(spec));
                self.service_event(&id, Event::Change);
            }
        }
    }

    /// Lets an event happen to a service, and all that follows from it.
    pub(super) fn service_event(&mut self, id: &ServiceId, event: Event) {
        let mut event = Some(event);
        while let Some(now) = event.take() {
            let Some(service) = self.services.get_mut(id) else { return };
            let (state, effects) = next(service.state, now, service.spec.restart.policy);
            if state != service.state {
                service.state = state;
                service.since = clock::since_boot();
                service.deadline = None;
                // A notify socket is read for as long as there is somebody to write to it.
                let probed = matches!(service.readiness, Some(Watch::Probe(_)));
                if !state.has_process() || probed && state != State::Starting {
                    service.readiness = None;
                }
            }
            for effect in effects {
                event = self.carry_out(id, effect).or(event);
            }
            self.adopt_next_spec(id);
        }
    }

    /// A new spec counts once no process runs under the old one.
    fn adopt_next_spec(&mut self, id: &ServiceId) {
        let Some(service) = self.services.get_mut(id).filter(|service| !service.state.has_process()) else { return };
        if let Some(spec) = service.next_spec.take() {
            let old = std::mem::replace(&mut service.spec, *spec);
            if old.slice != service.spec.slice {
                self.cgroups.remove(old.slice, id);
            }
        }
    }

    /// Carries out one effect; answers the event that it causes at once.
    fn carry_out(&mut self, id: &ServiceId, effect: Effect) -> Option<Event> {
        let now = clock::since_boot();
        match effect {
            Effect::Spawn => return self.spawn(id),
            Effect::Terminate => {
                self.signal(id, Signal::TERM);
                if let Some(service) = self.services.get_mut(id) {
                    service.deadline = Some(now.saturating_add(service.spec.stop.deadline));
                }
            }
            Effect::Kill => {
                self.console.warning(&format!("{id} does not stop and is killed"));
                self.signal(id, Signal::KILL);
                if let Some(service) = self.services.get_mut(id) {
                    service.deadline = Some(now + KILL_AGAIN);
                }
            }
            Effect::KillLeftovers => {
                if self.services.get(id).is_some_and(|service| service.spec.stop.whole == StopScope::Cgroup) {
                    self.signal(id, Signal::KILL);
                }
            }
            Effect::SetBackoff => {
                if let Some(service) = self.services.get_mut(id) {
                    let up = now.saturating_sub(service.started);
                    service.backoff = service::backoff(service.backoff, up, &service.spec.restart);
                    service.deadline = Some(now.saturating_add(service.backoff));
                }
            }
            Effect::CountRestart => {
                if let Some(service) = self.services.get_mut(id) {
                    service.restarts = service.restarts.saturating_add(1);
                }
            }
            Effect::ResetCount => {
                if let Some(service) = self.services.get_mut(id) {
                    (service.restarts, service.backoff) = (0, Duration::ZERO);
                }
            }
            Effect::Forget => self.forget(id),
        }
        None
    }

    fn spawn(&mut self, id: &ServiceId) -> Option<Event> {
        match self.try_spawn(id) {
            Ok(ready) => ready.then_some(Event::BecameReady),
            Err(error) => {
                let service = self.services.get_mut(id)?;
                service.last_exit = Some(Exit::Exec(error.raw_os_error().unwrap_or(libc::EIO)));
                self.console.error(&format!("{id}: start {}: {error}", service.spec.program.display()));
                Some(Event::Exited(Ending::Failed))
            }
        }
    }

    /// Whether the service is ready as soon as it runs.
    fn try_spawn(&mut self, id: &ServiceId) -> std::io::Result<bool> {
        let now = clock::since_boot();
        let notify_socket = self.root.notify_directory().join(format!("{id}.sock"));
        let Some(service) = self.services.get_mut(id) else { return Ok(false) };
        service.started = now;
        let spec = &service.spec;
        service.readiness = readiness::watch(&spec.readiness, &notify_socket, spec.account.id(), now)?;
        let cgroup = self.cgroups.enter(spec.slice, id, &spec.resources).map_err(|error| std::io::Error::other(console::chain(&error)))?;
        let output = self.logs.output(id.as_str())?;
        let pid = process::start(&self.root, spec, Surroundings { cgroup, output, notify_socket })?;
        service.pid = Some(pid);
        self.children.insert(pid, Child::Service(id.clone()));
        Ok(service.readiness.is_none())
    }

    /// Sends a signal to what a stop reaches.
    fn signal(&mut self, id: &ServiceId, signal: Signal) {
        let Some(service) = self.services.get(id) else { return };
        let pid = service.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let slice: Slice = service.spec.slice;
        match service.spec.stop.whole {
            StopScope::MainProcess => {
                if let Some(pid) = pid.filter(|_| service.state.has_process()) {
                    let _ = kill_process(pid, signal);
                }
            }
            StopScope::Cgroup => {
                let reached = if signal == Signal::KILL { self.cgroups.kill(slice, id) } else { self.cgroups.terminate(slice, id) };
                // Without cgroups the session that the service began is the next best.
                if let Some(pid) = pid.filter(|_| !reached) {
                    let _ = kill_process_group(pid, signal);
                }
            }
        }
    }

    fn forget(&mut self, id: &ServiceId) {
        let Some(service) = self.services.remove(id) else { return };
        self.cgroups.remove(service.spec.slice, id);
        self.logs.forget(id.as_str());
        let _ = std::fs::remove_file(self.root.notify_directory().join(format!("{id}.sock")));
        if let Some(server) = &mut self.server {
            server.publish(&Told::ServiceRemoved(id.clone()));
        }
    }

    pub(super) fn service_exited(&mut self, id: &ServiceId, exit: Exit) {
        self.logs.finish(id.as_str());
        let Some(service) = self.services.get_mut(id) else { return };
        service.last_exit = Some(exit);
        let expected = matches!(service.state, State::Stopping(_) | State::Killing(_));
        self.service_event(id, Event::Exited(service::ending(exit)));
        let Some(service) = self.services.get_mut(id) else { return };
        service.pid = None;
        if !expected {
            let then = match service.state {
                State::Backoff => format!("; again in {:.1} s", service.backoff.as_secs_f64()),
                _ => String::new(),
            };
            self.console.warning(&format!("{id} ended: {exit}{then}"));
        }
    }

    /// Starts every service that waits for nothing any more; one that is ready at once may let others start.
    pub(super) fn start_what_may(&mut self) {
        loop {
            let may: Vec<ServiceId> = self
                .services
                .iter()
                .filter(|(id, service)| service.state == State::Waiting && service::missing(&self.services, id).is_empty())
                .map(|(id, _)| id.clone())
                .collect();
            if may.is_empty() {
                return;
            }
            for id in may {
                self.service_event(&id, Event::DependenciesReady);
            }
        }
    }

    /// Tells subscribers what is not as they know it.
    pub(super) fn tell_changes(&mut self) {
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            let status = service::status(&self.services, &id);
            let Some(service) = self.services.get_mut(&id).filter(|service| service.told != status) else { continue };
            if service.state == State::Ready
                && service.told.as_ref().map(|told| &told.state) != Some(&machine::service::ServiceState::Ready)
            {
                self.console.info(&format!("{id} is ready"));
            }
            service.told.clone_from(&status);
            if let (Some(server), Some(status)) = (&mut self.server, status) {
                server.publish(&Told::Service(status));
            }
        }
    }

    pub(super) fn take_notification(&mut self, id: &ServiceId) {
        if let Some(Watch::Notify(socket)) = self.services.get(id).and_then(|service| service.readiness.as_ref())
            && readiness::notified(socket)
        {
            self.service_event(id, Event::BecameReady);
        }
    }

    pub(super) fn finish_probe(&mut self, id: &ServiceId, now: Duration) {
        if let Some(Watch::Probe(probe)) = self.services.get_mut(id).and_then(|service| service.readiness.as_mut())
            && probe.finish(now)
        {
            self.service_event(id, Event::BecameReady);
        }
    }

    /// Deadlines of services and times to probe.
    pub(super) fn fire_services(&mut self, now: Duration) {
        let ids: Vec<ServiceId> = self.services.keys().cloned().collect();
        for id in ids {
            let Some(service) = self.services.get_mut(&id) else { continue };
            if service.deadline.is_some_and(|deadline| deadline <= now) {
                service.deadline = None;
                let event = if service.state == State::Backoff { Event::BackoffOver } else { Event::StopDeadline };
                self.service_event(&id, event);
                continue;
            }
            if let Some(Watch::Probe(probe)) = service.readiness.as_mut().filter(|_| service.state == State::Starting)
                && probe.at <= now
                && probe.fire(now)
            {
                self.service_event(&id, Event::BecameReady);
            }
        }
    }
}
