//! Who waits for whom: starts follow `after`, stops go the other way.

use std::collections::{BTreeMap, BTreeSet};

use machine::service::ServiceId;

/// `after` of each service.
pub type After = BTreeMap<ServiceId, Vec<ServiceId>>;

/// A circle that a new or changed service would close: the names along it.
pub fn circle(after: &After, id: &ServiceId, new: &[ServiceId]) -> Option<Vec<ServiceId>> {
    let mut seen = BTreeSet::new();
    let mut paths: Vec<Vec<&ServiceId>> = new.iter().map(|next| vec![next]).collect();
    while let Some(path) = paths.pop() {
        let Some(last) = path.last().copied() else { continue };
        if last == id {
            return Some([id].into_iter().chain(path).cloned().collect());
        }
        if seen.insert(last) {
            for next in after.get(last).into_iter().flatten() {
                paths.push(path.iter().copied().chain([next]).collect());
            }
        }
    }
    None
}

/// Which of the running services may be stopped now: those that no running one was started after. There is always one, as `after` has no
/// circles; should specs have changed under running services, all may.
pub fn stoppable(running: &After) -> Vec<ServiceId> {
    let needed: BTreeSet<&ServiceId> = running.values().flatten().collect();
    let free: Vec<ServiceId> = running.keys().filter(|id| !needed.contains(id)).cloned().collect();
    if free.is_empty() { running.keys().cloned().collect() } else { free }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ServiceId {
        ServiceId::new(name).expect("legal name")
    }

    fn after(pairs: &[(&str, &[&str])]) -> After {
        pairs.iter().map(|(name, after)| (id(name), after.iter().map(|name| id(name)).collect())).collect()
    }

    #[test]
    fn circles_are_found_with_their_path() {
        let known = after(&[("a", &["b"]), ("b", &["c", "d"]), ("d", &[])]);
        assert_eq!(circle(&known, &id("d"), &[id("x")]), None);
        assert_eq!(circle(&known, &id("d"), &[id("a")]), Some(vec![id("d"), id("a"), id("b"), id("d")]));
        assert_eq!(circle(&known, &id("e"), &[id("e")]), Some(vec![id("e"), id("e")]));
    }

    #[test]
    fn stops_go_against_starts() {
        let mut running = after(&[("etcd", &[]), ("apiserver", &["etcd"]), ("scheduler", &["apiserver"]), ("agent", &[])]);
        assert_eq!(stoppable(&running), [id("agent"), id("scheduler")]);
        running.remove(&id("agent"));
        running.remove(&id("scheduler"));
        assert_eq!(stoppable(&running), [id("apiserver")]);
    }

    #[test]
    fn circle_among_running_services_does_not_hold_the_shutdown_up() {
        let running = after(&[("a", &["b"]), ("b", &["a"])]);
        assert_eq!(stoppable(&running), [id("a"), id("b")]);
        assert_eq!(stoppable(&After::new()), []);
    }
}
