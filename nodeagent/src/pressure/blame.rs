//! Who uses most of what others wait for: the first thing that people ask. By the figures of the last sweep, which are up to a second old.

use metrics::trigger::Resource;
use metrics::{Names, Place, Reading, Snapshot};

/// Share of the CPUs with nothing to do up to which waiting is for want of CPUs. Above it some task's own limit holds it back.
pub const IDLE: f64 = 0.1;

/// Share of the machine's CPUs that have nothing to do; none before the second sweep.
pub fn idle_cpus(snapshot: &Snapshot) -> Option<f64> {
    let cpus = snapshot.node.cpus.len();
    snapshot.node.rates.idle_cpus.filter(|_| cpus > 0).map(|idle| idle / cpus as f64)
}

/// The pod or service that uses most; none where nothing is known to use any.
pub fn most(snapshot: &Snapshot, names: &Names, resource: Resource) -> Option<String> {
    let whole = snapshot.groups.iter().filter(|reading| matches!(reading.place, Place::Pod(..) | Place::Service(_)));
    let used = whole.filter_map(|reading| Some((reading, uses(reading, resource)?)));
    let (reading, amount) = used.filter(|(_, amount)| *amount > 0.0).max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    let amount = match resource {
        Resource::Cpu => format!("{amount:.2} CPUs"),
        Resource::Memory => format!("{:.0} MiB", amount / f64::from(1 << 20)),
        Resource::Io => format!("{:.1} MiB/s", amount / f64::from(1 << 20)),
    };
    let called = names.of(&reading.place);
    let who = match &reading.place {
        Place::Service(service) => format!("service {}", service.name),
        _ if !called.pod.is_empty() => format!("pod {}/{}", called.namespace, called.pod),
        place => format!("pod at {place}"),
    };
    Some(format!("{who} uses most, {amount}"))
}

fn uses(reading: &Reading, resource: Resource) -> Option<f64> {
    match resource {
        Resource::Cpu => reading.rates.cpus,
        Resource::Memory => reading.sample.memory.map(|memory| memory.working_set() as f64),
        Resource::Io => {
            let (read, written) = (reading.rates.read_bytes, reading.rates.written_bytes);
            (read.is_some() || written.is_some()).then(|| read.unwrap_or(0.0) + written.unwrap_or(0.0))
        }
    }
}
