//! init's event loop: one thread that waits for signals, requests, output of services, readiness, device events and deadlines, and lets the
//! state machines decide what follows. Nothing in it waits for anything else.

mod boot;
mod installation;
mod requests;
mod services;
mod shutdown;
mod volumes;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use machine::Root;
use machine::disk::Volume;
use machine::protocol::BootFacts;
use machine::service::ServiceId;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::WaitOptions;
use rustix::time::Timespec;

use crate::cgroup::Cgroups;
use crate::console::Console;
use crate::log::{self, Logs};
use crate::process;
use crate::server::Server;
use crate::shutdown::Shutdown;
use crate::stage2::{self, drivers::Drivers};
use crate::supervisor::readiness::Watch;
use crate::supervisor::service::Services;
use crate::volume::Volumes;
use crate::watchdog::{self, Watchdog};
use crate::{clock, mount, trial, uevent};

/// How often the time of day is saved on STATE.
const SAVE_CLOCK_EVERY: Duration = Duration::from_secs(300);

/// Where init runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// As PID 1 of a machine.
    Machine,
    /// On a directory: services and requests only, no power, no mounts.
    Directory,
}

/// Whose process a child is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Child {
    Service(ServiceId),
    Volume(Volume),
    Drivers,
}

/// What is waited on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Signals,
    Listener,
    Client(u64),
    Log(String),
    Notify(ServiceId),
    Probe(ServiceId),
    Uevents,
}

/// init.
#[derive(Debug)]
pub struct Init {
    root: Root,
    host: Host,
    console: Console,
    cgroups: Cgroups,
    facts: BootFacts,
    signals: SignalFd,
    uevents: Option<OwnedFd>,
    server: Option<Server>,
    services: Services,
    children: BTreeMap<u32, Child>,
    logs: Logs,
    volumes: Volumes,
    drivers: Drivers,
    watchdog: Watchdog,
    trial: trial::State,
    boot: VecDeque<boot::Begun>,
    shutdown: Option<Shutdown>,
    save_clock_at: Duration,
}

/// Runs the event loop on a directory: what a test of requests and services needs of init, and no more.
pub fn supervise(directory: PathBuf) -> ExitCode {
    let root = Root::new(directory);
    let cgroups = Cgroups::at(root.path(mount::CGROUPS.target));
    // As PID 1, it takes over what its services leave behind.
    let adopts = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let facts = stage2::read_facts(&root).unwrap_or_default();
    let init = Init::new(root, Host::Directory, Console::standard_error(), cgroups, facts);
    match (adopts, init.and_then(|mut init| init.listen().map(|()| init))) {
        (Ok(()), Ok(mut init)) => init.run(),
        (adopts, init) => {
            eprintln!("init: {adopts:?} {:?}", init.map(|_| ()));
            ExitCode::FAILURE
        }
    }
}

impl Init {
    pub fn new(root: Root, host: Host, console: Console, cgroups: Cgroups, facts: BootFacts) -> io::Result<Init> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let logs = Logs::new(root.early_log_directory(), log::EARLY);
        Ok(Init {
            root,
            host,
            console,
            cgroups,
            trial: trial::begin(facts.counted),
            facts,
            signals,
            uevents: None,
            server: None,
            services: Services::new(),
            children: BTreeMap::new(),
            logs,
            volumes: Volumes::default(),
            drivers: Drivers::default(),
            watchdog: Watchdog::new(),
            boot: VecDeque::new(),
            shutdown: None,
            save_clock_at: Duration::ZERO,
        })
    }

    /// Turns until the boot ends.
    pub fn run(&mut self) -> ! {
        loop {
            self.settle();
            for (source, flags) in self.wait() {
                self.serve(source, flags);
            }
            self.fire(clock::since_boot());
        }
    }

    /// Carries out what can be done without waiting: starts what may start, goes on with boot and shutdown, tells what changed.
    fn settle(&mut self) {
        self.advance_boot();
        self.start_what_may();
        self.load_drivers();
        self.advance_shutdown();
        self.tell_changes();
    }

    /// Waits for something to happen or for the next deadline.
    fn wait(&self) -> Vec<(Source, PollFlags)> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut add = |source, fd| {
            sources.push(source);
            fds.push(fd);
        };
        if let Some(server) = &self.server {
            add(Source::Listener, PollFd::from_borrowed_fd(server.listener(), PollFlags::IN));
            for (client, fd, interest) in server.clients() {
                add(Source::Client(client), PollFd::from_borrowed_fd(fd, interest));
            }
        }
        if let Some(uevents) = &self.uevents {
            add(Source::Uevents, PollFd::from_borrowed_fd(uevents.as_fd(), PollFlags::IN));
        }
        for (name, fd) in self.logs.inputs() {
            add(Source::Log(name.to_owned()), PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for (id, service) in &self.services {
            match &service.readiness {
                Some(Watch::Notify(socket)) => add(Source::Notify(id.clone()), PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)),
                Some(Watch::Probe(probe)) => {
                    if let Some(attempt) = &probe.attempt {
                        add(Source::Probe(id.clone()), PollFd::from_borrowed_fd(attempt.as_fd(), PollFlags::OUT));
                    }
                }
                None => {}
            }
        }
        let timeout = self.next_deadline().map(|at| {
            // A millisecond more, so that the deadline has passed on waking.
            let left = at.saturating_sub(clock::since_boot()) + Duration::from_millis(1);
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        if poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        sources.into_iter().zip(ready).filter(|(_, flags)| !flags.is_empty()).collect()
    }

    fn serve(&mut self, source: Source, flags: PollFlags) {
        let now = clock::since_boot();
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => {
                if let Some(server) = &mut self.server {
                    server.accept();
                }
            }
            Source::Client(client) => self.serve_client(client, flags),
            Source::Log(name) => self.logs.take(&name),
            Source::Notify(id) => self.take_notification(&id),
            Source::Probe(id) => self.finish_probe(&id, now),
            Source::Uevents => self.take_uevents(now),
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let services = self.services.values().flat_map(|service| {
            let probe = match &service.readiness {
                Some(Watch::Probe(probe)) => Some(probe.at),
                _ => None,
            };
            [service.deadline, probe]
        });
        let clock = self.volumes.is_open(Volume::State).then_some(self.save_clock_at);
        let shutdown = self.shutdown.as_ref().map(Shutdown::look_again);
        services.chain([self.watchdog.due(), self.trial.deadline(), clock, shutdown]).flatten().min()
    }

    /// Carries out what is due.
    fn fire(&mut self, now: Duration) {
        if self.watchdog.due().is_some_and(|due| due <= now) {
            self.watchdog.feed(now);
        }
        if self.volumes.is_open(Volume::State) && self.save_clock_at <= now && self.shutdown.is_none() {
            self.save_clock();
            self.save_clock_at = now + SAVE_CLOCK_EVERY;
        }
        self.trial_event(trial::Event::Woke { now });
        self.fire_services(now);
    }

    /// Lets an event happen to the trial of the image.
    fn trial_event(&mut self, event: trial::Event) {
        let (state, effect) = trial::next(self.trial, event);
        if state != self.trial && state == trial::State::Proven {
            self.console.info("the image on trial is proven good");
        }
        self.trial = state;
        match effect {
            Some(trial::Effect::Restart) => self.begin_shutdown(machine::protocol::PowerAction::Reboot, Vec::new(), trial::REASON),
            None => {}
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => self.reap(),
                // The kernel sends SIGINT for Ctrl-Alt-Del.
                Ok(Signal::SIGINT) => self.begin_shutdown(machine::protocol::PowerAction::Reboot, Vec::new(), "Ctrl-Alt-Del"),
                Ok(signal @ (Signal::SIGTERM | Signal::SIGPWR)) => {
                    self.begin_shutdown(machine::protocol::PowerAction::PowerOff, Vec::new(), signal.as_str());
                }
                _ => {}
            }
        }
    }

    /// Takes the exit of every child, orphans that the kernel gave to init included.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = process::exit(status);
            match u32::try_from(pid.as_raw_nonzero().get()).ok().and_then(|pid| self.children.remove(&pid)) {
                Some(Child::Service(id)) => self.service_exited(&id, exit),
                Some(Child::Volume(volume)) => self.volume_tool_exited(volume, exit),
                Some(Child::Drivers) => self.drivers_loaded(),
                None => {}
            }
        }
    }

    fn take_uevents(&mut self, now: Duration) {
        let mut watchdog = false;
        // Bounded: more is read in the next turn.
        for _ in 0..256 {
            let Some(socket) = &self.uevents else { return };
            match uevent::receive(socket) {
                Ok(Some(event)) if event.action == "add" => {
                    watchdog |= event.subsystem == "watchdog";
                    if let Some(alias) = event.modalias {
                        self.drivers.want(alias);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    self.console.warning(&format!("device events were lost ({error}); looking at all devices again"));
                    self.drivers.want_all();
                    break;
                }
            }
        }
        if watchdog {
            self.open_watchdog(now);
        }
    }

    fn open_watchdog(&mut self, now: Duration) {
        match self.watchdog.open(&self.root.path(watchdog::DEVICE), now) {
            Ok(Some(timeout)) => self.console.info(&format!("watchdog armed: {} s", timeout.as_secs())),
            Ok(None) => {}
            Err(error) => self.console.warning(&format!("watchdog {}: {error}", watchdog::DEVICE)),
        }
    }
}
