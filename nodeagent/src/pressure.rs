//! Watches this machine's pressure by thresholds that the kernel keeps: the agent sleeps until tasks stood still for too long, and hears of it in
//! the same second. Hysteresis makes of that when pressure begins and ends.
//!
//! reads: machine config, /proc/pressure, what the machine uses   writes: pressures, events

mod blame;
mod state;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use machine::config::{MachinePressure, PressureThreshold, Stall};
use metrics::trigger::{self, Event, Resource, Watch};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::clock;
use crate::node::{Applied, Node};
use crate::resources::pressure::{Pressure, PressureState};
use crate::usage::Usage;
use state::{Edge, State};

/// After which a kernel that did not take a threshold is asked again.
const AGAIN: Duration = Duration::from_secs(60);

/// Watches all resources, for as long as the agent lives.
pub async fn follow(node: Node, usage: Usage) {
    let [cpu, memory, io] = Resource::ALL.map(|resource| Watched::new(node.clone(), usage.clone(), resource).run());
    tokio::join!(cpu, memory, io);
}

/// One resource.
#[derive(Debug)]
struct Watched {
    node: Node,
    usage: Usage,
    resource: Resource,
    state: State,
    /// What was told last, and since when, by the wall clock.
    told: Option<(PressureState, SystemTime)>,
    times: u64,
    message: String,
}

/// What the kernel tells, for as long as somebody hears it.
#[derive(Debug)]
struct Events {
    events: mpsc::Receiver<Event>,
    _watch: Watch,
}

/// What wakes the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Stalled,
    /// The kernel watches no longer.
    Gone,
    ByTime,
    ByConfig,
}

impl Watched {
    fn new(node: Node, usage: Usage, resource: Resource) -> Watched {
        let state = State::Settling { since: Instant::now() };
        Watched { node, usage, resource, state, told: None, times: 0, message: String::new() }
    }

    async fn run(mut self) {
        let mut configs = self.node.watch_config();
        loop {
            configs.mark_unchanged();
            let Some(wanted) = self.node.config().map(|applied| applied.config.machine.pressure.clone()) else {
                // The config's channel is closed only when the agent ends.
                let _ = configs.changed().await;
                continue;
            };
            let threshold = of(&wanted, self.resource);
            let mut events = match self.arm(threshold) {
                Ok(events) => events,
                Err(state) => {
                    // What was known before the kernel stopped watching counts no longer.
                    self.state = State::Settling { since: Instant::now() };
                    self.tell(state, threshold);
                    let _ = tokio::time::timeout(AGAIN, configs.changed()).await;
                    continue;
                }
            };
            if matches!(self.state, State::Settling { .. }) {
                self.message = String::new();
            }
            self.tell(self.shown(), threshold);
            // As long as the threshold is the same one, the kernel goes on watching.
            loop {
                let wanted = self.node.config().map(|applied| applied.config.machine.pressure.clone()).unwrap_or_default();
                if of(&wanted, self.resource) != threshold {
                    break;
                }
                let woken = self.wait(&mut events, wanted.calm.0, &mut configs).await;
                if woken == Woken::Gone {
                    tokio::time::sleep(AGAIN).await;
                    break;
                }
                self.take(woken, &wanted, threshold);
            }
        }
    }

    /// What is told instead where nothing is watched.
    fn arm(&mut self, threshold: PressureThreshold) -> Result<Events, PressureState> {
        let stall = match threshold.stall {
            Stall::Some => trigger::Stall::Some,
            Stall::Full => trigger::Stall::Full,
            Stall::None => {
                self.message = String::new();
                return Err(PressureState::Off);
            }
        };
        let path = trigger::of_machine(&self.node.root.proc(), self.resource);
        let armed = trigger::arm(&path, trigger::Threshold { stall, time: threshold.time.0, within: threshold.within.0 });
        // One that was not taken yet says the same as the next.
        let (sender, events) = mpsc::channel(1);
        let watch = |file| {
            Ok(Watch::start(file, move |event| {
                let _ = sender.try_send(event);
            })?)
        };
        let watched = armed.map_err(anyhow::Error::from).and_then(watch);
        watched.map(|watch| Events { events, _watch: watch }).map_err(|error| {
            self.message = format!("{error:#}");
            PressureState::Unknown
        })
    }

    async fn wait(&self, events: &mut Events, calm: Duration, configs: &mut watch::Receiver<Option<Applied>>) -> Woken {
        let end = state::ends(self.state, calm);
        let over = async {
            match end {
                Some(end) => tokio::time::sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.events.recv() => match event {
                Some(Event::Stalled) => Woken::Stalled,
                Some(Event::Gone) | None => Woken::Gone,
            },
            () = over => Woken::ByTime,
            _ = configs.changed() => Woken::ByConfig,
        }
    }

    fn take(&mut self, woken: Woken, wanted: &MachinePressure, threshold: PressureThreshold) {
        let now = Instant::now();
        let (next, edge) = match woken {
            Woken::Stalled if self.by_limits_alone() => (self.state, None),
            Woken::Stalled => state::stalled(self.state, now),
            _ => state::passed(self.state, now, wanted.calm.0),
        };
        self.state = next;
        let subject = format!("pressure/{}", self.resource.name());
        match edge {
            None => return,
            Some(Edge::Raised) => {
                self.times += 1;
                self.message = format!("tasks waited for {}: {threshold}", noun(self.resource));
                let (snapshot, names) = self.usage.newest();
                if let Some(blame) = blame::most(&snapshot, &names, self.resource) {
                    self.message += &format!("; {blame}");
                }
                self.node.events.emit(subject, "Raised", self.message.clone());
            }
            Some(Edge::Lowered(lasted)) => {
                self.message = String::new();
                if let Some(lasted) = lasted {
                    let text = format!("calm for {}; it had lasted {} s", wanted.calm, lasted.as_secs());
                    self.node.events.emit(subject, "Lowered", text);
                }
            }
        }
        self.tell(self.shown(), threshold);
    }

    /// Tasks that their cgroup's own CPU limit holds back count as waiting, on a machine that idles as well. Nobody else waits for them.
    fn by_limits_alone(&self) -> bool {
        self.resource == Resource::Cpu && blame::idle_cpus(&self.usage.newest().0).is_some_and(|share| share > blame::IDLE)
    }

    fn shown(&self) -> PressureState {
        match self.state {
            State::Settling { .. } => PressureState::Settling,
            State::Calm => PressureState::Calm,
            State::Raised { .. } => PressureState::Raised,
        }
    }

    fn tell(&mut self, state: PressureState, threshold: PressureThreshold) {
        let since = match self.told {
            Some((told, since)) if told == state => since,
            _ => SystemTime::now(),
        };
        self.told = Some((state, since));
        let (since, threshold) = (clock::date(since), threshold.to_string());
        let told = Pressure { state, since, threshold, times: self.times, message: self.message.clone() };
        self.node.store.put(self.resource.name(), &told);
    }
}

fn of(wanted: &MachinePressure, resource: Resource) -> PressureThreshold {
    match resource {
        Resource::Cpu => wanted.cpu,
        Resource::Memory => wanted.memory,
        Resource::Io => wanted.io,
    }
}

fn noun(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "CPUs",
        Resource::Memory => "memory",
        Resource::Io => "disks",
    }
}
