//! Answers requests. What takes time is answered when it is done; starts and stops are answered once they are under way, and events tell
//! the rest.

use machine::protocol::{Event as Told, Request, Response};
use machine::service::{ServiceId, ServiceSpec};
use rustix::event::PollFlags;

use super::Init;
use crate::process;
use crate::server::Ticket;
use crate::supervisor::order::{self, After};
use crate::supervisor::service;
use crate::supervisor::state::Event;
use crate::volume::state;
use crate::{clock, console, trial, watchdog};

impl Init {
    pub(super) fn serve_client(&mut self, client: u64, flags: PollFlags) {
        if flags.contains(PollFlags::OUT)
            && let Some(server) = &mut self.server
        {
            server.write(client);
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let requests = self.server.as_mut().map(|server| server.read(client)).unwrap_or_default();
        for (ticket, request) in requests {
            let response = self.answer(ticket, request);
            if let (Some(server), Some(response)) = (&mut self.server, response) {
                server.answer(ticket, &response);
            }
        }
    }

    /// The answer, unless it comes later.
    fn answer(&mut self, ticket: Ticket, request: Request) -> Option<Response> {
        let refused = |reason: String| Some(Response::Refused { reason });
        if self.shutdown.is_some() && changes_something(&request) {
            return refused("the machine is shutting down".to_owned());
        }
        match request {
            Request::PutService(spec) => {
                if let Some(reason) = self.objection(&spec) {
                    return refused(reason);
                }
                self.put_service(*spec);
                Some(Response::Done)
            }
            Request::RemoveService(id) => {
                // Unknown is removed already.
                self.service_event(&id, Event::Remove);
                Some(Response::Done)
            }
            Request::StartService(id) => self.request_event(&id, Event::Start),
            Request::StopService(id) => self.request_event(&id, Event::Stop),
            Request::RestartService(id) => self.request_event(&id, Event::Restart),
            Request::ListServices => {
                Some(Response::Services(self.services.keys().filter_map(|id| service::status(&self.services, id)).collect()))
            }
            Request::Subscribe => {
                self.subscribe(ticket);
                None
            }
            Request::OpenVolume(volume) => {
                self.volumes.place(volume).waiting.push(ticket);
                self.volume_event(volume, state::Event::Open);
                None
            }
            Request::ListVolumes => Some(Response::Volumes(self.volumes.statuses())),
            Request::SetWatchdog { timeout } if timeout < watchdog::LEAST_TIMEOUT => {
                let (asked, least) = (timeout.as_secs_f64(), watchdog::LEAST_TIMEOUT.as_secs());
                refused(format!("watchdog timeout {asked} s: expected at least {least} s: a busy machine would restart"))
            }
            Request::SetWatchdog { timeout } => match self.watchdog.set_timeout(timeout, clock::since_boot()) {
                Ok(_) => Some(Response::Done),
                Err(error) => refused(format!("set the watchdog's timeout to {} s: {error}", timeout.as_secs())),
            },
            Request::ProveBoot(proof) => {
                self.trial_event(trial::Event::Said { proof, now: clock::since_boot() });
                Some(Response::Done)
            }
            Request::LayOutDisk { device, wipe } => match self.lay_out_disk(&device, wipe) {
                Ok(()) => Some(Response::Done),
                Err(error) => refused(console::chain(&error)),
            },
            Request::AdoptDisk { device } => match self.adopt_disk(&device) {
                Ok(()) => Some(Response::Done),
                Err(reason) => refused(reason),
            },
            Request::GetBootFacts => Some(Response::BootFacts(Box::new(self.facts.clone()))),
            Request::Power { action, wipe, reason } => {
                self.begin_shutdown(action, wipe, &reason);
                Some(Response::Done)
            }
        }
    }

    fn request_event(&mut self, id: &ServiceId, event: Event) -> Option<Response> {
        if !self.services.contains_key(id) {
            return Some(Response::Refused { reason: format!("there is no service {id}") });
        }
        self.service_event(id, event);
        Some(Response::Done)
    }

    fn subscribe(&mut self, ticket: Ticket) {
        // So that what is told next is newer than the first statuses.
        self.tell_changes();
        let services = self.services.keys().filter_map(|id| service::status(&self.services, id)).map(Told::Service);
        let volumes = self.volumes.statuses().into_iter().map(Told::Volume);
        let first: Vec<Told> = services.chain(volumes).collect();
        if let Some(server) = &mut self.server {
            server.subscribe(ticket, &first);
        }
    }

    /// What speaks against running a service as its spec says.
    fn objection(&self, spec: &ServiceSpec) -> Option<String> {
        let id = &spec.id;
        if !spec.program.is_absolute() {
            return Some(format!("service {id}: program {}: expected an absolute path", spec.program.display()));
        }
        if let Some(name) = process::unknown_name(&spec.capabilities) {
            return Some(format!("service {id}: capability {name:?}: expected a name as in capabilities(7), lower case, without cap_"));
        }
        if !(-1000..=1000).contains(&spec.oom_score_adjust) {
            return Some(format!("service {id}: oomScoreAdjust {}: expected -1000 to 1000", spec.oom_score_adjust));
        }
        if let Some(weight) = spec.resources.cpu_weight.filter(|weight| !(1..=10000).contains(weight)) {
            return Some(format!("service {id}: cpuWeight {weight}: expected 1 to 10000"));
        }
        let after: After = self.services.iter().map(|(id, service)| (id.clone(), service.wanted_spec().after.clone())).collect();
        let circle = order::circle(&after, id, &spec.after)?;
        let names: Vec<&str> = circle.iter().map(ServiceId::as_str).collect();
        Some(format!("service {id}: it would wait for itself: {}", names.join(" after ")))
    }
}

fn changes_something(request: &Request) -> bool {
    match request {
        Request::PutService(_)
        | Request::RemoveService(_)
        | Request::StartService(_)
        | Request::StopService(_)
        | Request::RestartService(_)
        | Request::OpenVolume(_)
        | Request::SetWatchdog { .. }
        | Request::ProveBoot(_)
        | Request::LayOutDisk { .. }
        | Request::AdoptDisk { .. }
        | Request::Power { .. } => true,
        Request::ListServices | Request::Subscribe | Request::ListVolumes | Request::GetBootFacts => false,
    }
}
