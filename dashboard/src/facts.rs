//! What is known of the machine, and what of it the user wants to see.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use api::v1::{Event, GetHealthResponse, GetVersionResponse, GroupKind, GroupUsage, NodeUsage, PressureShares, StreamMetricsResponse};

use crate::figures::longest;
use crate::times;

/// Figures that are kept of each kind: one a column, and no terminal is wider.
const FIGURES: usize = 512;
/// Lines that are kept of events and of logs.
const LINES: usize = 1000;

/// What a listener heard.
#[derive(Debug, Clone)]
pub enum Told {
    Version(GetVersionResponse),
    Health(GetHealthResponse),
    Usage(Box<StreamMetricsResponse>),
    /// What init says of it; nothing: it is no more.
    Service(String, Option<ServiceSeen>),
    Event(Event),
    Kernel(String),
    /// Lines of a service's log, by its name: some may still come of the one that was shown before.
    Log(String, Vec<u8>),
    /// A source does not answer, or, with nothing to say, answers again.
    Trouble(Source, Option<String>),
}

/// What is listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Version,
    Health,
    Usage,
    Services,
    Events,
    Kernel,
    Log,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Source::Version => "version",
            Source::Health => "health",
            Source::Usage => "usage",
            Source::Services => "services",
            Source::Events => "events",
            Source::Kernel => "kernel",
            Source::Log => "log",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSeen {
    pub state: String,
    pub restarts: u64,
}

/// What is shown below the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Panel {
    #[default]
    Events,
    Log,
    Kernel,
    Pods,
}

impl Panel {
    pub const ALL: [Panel; 4] = [Panel::Events, Panel::Log, Panel::Kernel, Panel::Pods];

    pub fn name(self) -> &'static str {
        match self {
            Panel::Events => "events",
            Panel::Log => "log",
            Panel::Kernel => "kernel",
            Panel::Pods => "pods",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Name,
    Cpu,
    Memory,
    Pressure,
}

impl Sort {
    const ALL: [Sort; 4] = [Sort::Name, Sort::Cpu, Sort::Memory, Sort::Pressure];

    pub fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Cpu => "CPU",
            Sort::Memory => "memory",
            Sort::Pressure => "pressure",
        }
    }
}

/// What the user wants otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Up,
    Down,
    NextPanel,
    Show(Panel),
    NextSort,
}

/// Shares of time in thousandths, the oldest first; nothing where the machine did not tell.
#[derive(Debug, Clone, Default)]
pub struct History(VecDeque<Option<u64>>);

impl History {
    fn note(&mut self, share: Option<f64>) {
        keep(&mut self.0, share.map(|share| (share.clamp(0.0, 1.0) * 1000.0).round() as u64), FIGURES);
    }

    /// The newest, as many as there are columns; those before there was any are missing.
    pub fn newest(&self, columns: usize) -> Vec<Option<u64>> {
        let known = self.0.len().min(columns);
        let missing = std::iter::repeat_n(None, columns - known);
        missing.chain(self.0.iter().skip(self.0.len() - known).copied()).collect()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub node: String,
    pub version: Option<GetVersionResponse>,
    pub health: Option<GetHealthResponse>,
    pub usage: Option<NodeUsage>,
    /// Of tasks that wait for CPU, memory and I/O.
    pub waits: [History; 3],
    pub services: BTreeMap<String, ServiceSeen>,
    groups: Vec<GroupUsage>,
    pub events: VecDeque<String>,
    pub kernel: VecDeque<String>,
    /// Of the service that is called so.
    pub log: (String, VecDeque<String>),
    pub troubles: BTreeMap<Source, String>,
    /// What is told to whoever stands before the machine.
    pub notes: Vec<String>,
    pub panel: Panel,
    pub sort: Sort,
    /// What the last line says in place of keys, where there are none; nothing can be chosen then.
    pub foot: Option<String>,
    /// The service that was chosen; none: the first.
    chosen: Option<String>,
}

impl Facts {
    pub fn of(node: String) -> Facts {
        Facts { node, ..Facts::default() }
    }

    pub fn learn(&mut self, told: Told) {
        match told {
            Told::Version(version) => self.version = Some(version),
            Told::Health(health) => self.health = Some(health),
            Told::Usage(usage) => {
                let pressure = usage.node.as_ref().and_then(|node| node.pressure).unwrap_or_default();
                let PressureShares { cpu_some, memory_some, io_some, .. } = pressure;
                self.waits.iter_mut().zip([cpu_some, memory_some, io_some]).for_each(|(history, share)| history.note(share));
                (self.usage, self.groups) = (usage.node, usage.groups);
            }
            Told::Service(name, Some(seen)) => drop(self.services.insert(name, seen)),
            Told::Service(name, None) => drop(self.services.remove(&name)),
            Told::Event(event) => {
                let line = format!("{}  {}  {}  {}", times::shown(event.at.as_ref()), event.subject, event.reason, event.message);
                keep(&mut self.events, plain(&line), LINES);
            }
            Told::Kernel(line) => keep(&mut self.kernel, plain(&line), LINES),
            Told::Log(service, lines) => {
                if self.log.0 != service {
                    self.log = (service, VecDeque::new());
                }
                String::from_utf8_lossy(&lines).lines().for_each(|line| keep(&mut self.log.1, plain(line), LINES));
            }
            // What was known stays to be seen meanwhile.
            Told::Trouble(source, Some(problem)) => drop(self.troubles.insert(source, problem)),
            Told::Trouble(source, None) if self.troubles.remove(&source).is_some() => match source {
                // It begins anew.
                Source::Events => self.events.clear(),
                Source::Kernel => self.kernel.clear(),
                Source::Log => self.log.1.clear(),
                Source::Services => self.services.clear(),
                Source::Version | Source::Health | Source::Usage => {}
            },
            Told::Trouble(_, None) => {}
        }
    }

    pub fn change(&mut self, change: Change) {
        match change {
            Change::Up => self.choose(|at, _| at.saturating_sub(1)),
            Change::Down => self.choose(|at, count| (at + 1).min(count.saturating_sub(1))),
            Change::NextPanel => self.panel = next(&Panel::ALL, self.panel),
            Change::Show(panel) => self.panel = panel,
            Change::NextSort => self.sort = next(&Sort::ALL, self.sort),
        }
    }

    fn choose(&mut self, to: impl Fn(usize, usize) -> usize) {
        let names = self.names();
        self.chosen = names.get(to(self.selected(), names.len())).map(|name| (*name).to_owned());
    }

    /// The services in the order in which they are shown.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.services.keys().map(String::as_str).collect();
        if self.sort != Sort::Name {
            names.sort_by_cached_key(|name| (Reverse(self.usage_of(name).and_then(|group| weight(group, self.sort))), *name));
        }
        names
    }

    /// Where among [`Facts::names`] the chosen one is.
    pub fn selected(&self) -> usize {
        let chosen = self.chosen.as_deref();
        self.names().iter().position(|name| Some(*name) == chosen).unwrap_or(0)
    }

    /// The service whose log is to be followed.
    pub fn log_wanted(&self) -> Option<String> {
        if self.panel != Panel::Log {
            return None;
        }
        self.names().get(self.selected()).map(|name| (*name).to_owned())
    }

    pub fn usage_of(&self, service: &str) -> Option<&GroupUsage> {
        self.groups.iter().find(|group| group.kind() == GroupKind::Service && group.service == service)
    }

    /// The pods, those that use most first.
    pub fn pods(&self) -> Vec<&GroupUsage> {
        let mut pods: Vec<&GroupUsage> = self.groups.iter().filter(|group| group.kind() == GroupKind::Pod).collect();
        let sort = if self.sort == Sort::Name { Sort::Cpu } else { self.sort };
        pods.sort_by_cached_key(|group| (Reverse(weight(group, sort)), group.namespace.clone(), group.pod.clone()));
        pods
    }
}

/// What is not known comes last.
fn weight(group: &GroupUsage, sort: Sort) -> Option<u64> {
    let fine = |value: f64| (value * 1e6) as u64;
    match sort {
        Sort::Name => None,
        Sort::Cpu => group.cpus_used.map(fine),
        Sort::Memory => group.memory_used_bytes,
        Sort::Pressure => group.pressure.as_ref().and_then(longest).map(fine),
    }
}

fn next<T: Copy + PartialEq>(all: &[T], now: T) -> T {
    let at = all.iter().position(|one| *one == now).unwrap_or(0);
    all[(at + 1) % all.len()]
}

fn keep<T>(kept: &mut VecDeque<T>, one: T, most: usize) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(one);
}

/// A terminal would do what control characters say.
fn plain(line: &str) -> String {
    line.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, state: &str) -> Told {
        Told::Service(name.to_owned(), Some(ServiceSeen { state: state.to_owned(), restarts: 0 }))
    }

    fn usage(service: &str, cpus: f64) -> GroupUsage {
        GroupUsage { kind: GroupKind::Service.into(), service: service.to_owned(), cpus_used: Some(cpus), ..Default::default() }
    }

    #[test]
    fn the_choice_stays_with_the_service_whatever_the_order() {
        let mut facts = Facts::default();
        ["etcd", "kubelet", "containerd"].iter().for_each(|name| facts.learn(service(name, "ready")));
        assert_eq!((facts.names(), facts.selected()), (vec!["containerd", "etcd", "kubelet"], 0));
        facts.change(Change::Down);
        facts.change(Change::Show(Panel::Log));
        assert_eq!(facts.log_wanted().as_deref(), Some("etcd"));
        let groups = vec![usage("kubelet", 0.5), usage("etcd", 0.25)];
        facts.learn(Told::Usage(Box::new(StreamMetricsResponse { groups, ..Default::default() })));
        facts.change(Change::NextSort);
        assert_eq!((facts.names(), facts.log_wanted().as_deref()), (vec!["kubelet", "etcd", "containerd"], Some("etcd")));
        // At the ends it stays.
        (0..5).for_each(|_| facts.change(Change::Down));
        assert_eq!(facts.log_wanted().as_deref(), Some("containerd"));
        (0..5).for_each(|_| facts.change(Change::Up));
        assert_eq!(facts.log_wanted().as_deref(), Some("kubelet"));
        // One that is gone is not chosen any longer.
        facts.learn(Told::Service("kubelet".to_owned(), None));
        assert_eq!(facts.log_wanted().as_deref(), Some("etcd"));
        facts.change(Change::NextPanel);
        assert_eq!(facts.log_wanted(), None);
    }

    #[test]
    fn no_more_is_kept_than_is_shown_and_no_control_characters() {
        let mut facts = Facts::default();
        (0..LINES + 1).for_each(|number| facts.learn(Told::Kernel(format!("line\t{number}\x1b[2J"))));
        assert_eq!((facts.kernel.len(), facts.kernel[0].as_str()), (LINES, "line 1 [2J"));
        facts.learn(Told::Log("etcd".to_owned(), b"one\ntwo\xff\n".to_vec()));
        facts.learn(Told::Log("kubelet".to_owned(), b"three\n".to_vec()));
        assert_eq!((facts.log.0.as_str(), Vec::from(facts.log.1.clone())), ("kubelet", vec!["three".to_owned()]));
        let share = |some| Told::Usage(Box::new(StreamMetricsResponse { node: Some(node(some)), ..Default::default() }));
        [Some(0.5), None, Some(2.0)].iter().for_each(|some| facts.learn(share(*some)));
        assert_eq!(facts.waits[0].newest(5), [None, None, Some(500), None, Some(1000)]);
        assert_eq!(facts.waits[0].newest(2), [None, Some(1000)]);
    }

    fn node(cpu_some: Option<f64>) -> NodeUsage {
        NodeUsage { pressure: Some(PressureShares { cpu_some, ..Default::default() }), ..Default::default() }
    }

    #[test]
    fn a_source_that_is_back_begins_anew() {
        let mut facts = Facts::default();
        facts.learn(service("etcd", "ready"));
        facts.learn(Told::Trouble(Source::Services, Some("no answer".to_owned())));
        assert!(facts.services.len() == 1 && facts.troubles.len() == 1);
        facts.learn(Told::Trouble(Source::Services, None));
        assert!(facts.services.is_empty() && facts.troubles.is_empty());
        // It was there all the time.
        facts.learn(service("etcd", "ready"));
        facts.learn(Told::Trouble(Source::Services, None));
        assert_eq!(facts.services.len(), 1);
    }
}
