//! Which node is to be relieved: one whose pressure lasts, while another could take more.

use std::collections::BTreeMap;

use machine::config::Rebalance;

use super::history::History;
use crate::controllers::pressure_taints::is_told;
use crate::resources::overlay::ClusterNode;
use crate::resources::scores::NodeScore;

/// How much better another node must be: a pod that moves for less moves back.
const MARGIN: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub node: String,
    /// `cpu`, `memory` or `io`: what has lasted longest.
    pub resource: String,
    /// For how long, in seconds.
    pub lasted: i64,
    /// The node that would be best.
    pub better: String,
}

/// What the choice is made from.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    pub nodes: &'a BTreeMap<String, ClusterNode>,
    pub scores: &'a BTreeMap<String, NodeScore>,
    pub history: &'a History,
    /// Seconds since 1970.
    pub now: i64,
}

/// The node, or why there is none.
pub fn choose(wanted: &Rebalance, cluster: Cluster<'_>) -> Result<Source, &'static str> {
    let Cluster { nodes, scores, history, now } = cluster;
    let lasting = |(name, node): (&String, &ClusterNode)| {
        let told = node.pressures.iter().filter(|pressure| is_told(pressure, now));
        let longest = told.min_by_key(|pressure| pressure.since)?;
        let lasted = now - longest.since;
        (lasted >= seconds(wanted.after.0)).then(|| (name.clone(), longest.resource.clone(), lasted))
    };
    let pressed: Vec<(String, String, i64)> = nodes.iter().filter_map(lasting).collect();
    if pressed.is_empty() {
        return Err("no node is under lasting pressure");
    }
    if now - history.in_cluster() < seconds(wanted.cluster_pause.0) {
        return Err("a pod was evicted a short while ago");
    }
    let calm = |name: &&String| nodes.get(*name).is_some_and(|node| node.ready && node.schedulable && node.pressures.is_empty());
    let known = scores.iter().filter(|(_, score)| !score.stale);
    let Some((better, best)) = known.clone().filter(|(name, _)| calm(name)).max_by_key(|(_, score)| score.score) else {
        return Err("no other node is calm and takes pods");
    };
    // The worst one first, and of equals the one that has waited longest.
    let scored = pressed.into_iter().filter_map(|pressed| Some((known.clone().find(|(name, _)| **name == pressed.0)?.1.score, pressed)));
    let mut fit: Vec<(u8, (String, String, i64))> = scored.filter(|(score, _)| best.score >= score.saturating_add(MARGIN)).collect();
    if fit.is_empty() {
        return Err("no other node would do much better");
    }
    fit.retain(|(_, (name, ..))| now - history.on_node(name) >= seconds(wanted.node_pause.0));
    let worst = fit.into_iter().min_by_key(|(score, (_, _, lasted))| (*score, -lasted));
    let (_, (node, resource, lasted)) = worst.ok_or("the nodes under pressure were relieved a short while ago")?;
    Ok(Source { node, resource, lasted, better: better.clone() })
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::overlay::ToldPressure;

    const NOW: i64 = 10_000;

    fn node(since: &[(&str, i64)]) -> ClusterNode {
        let told = |(resource, since): &(&str, i64)| ToldPressure { resource: (*resource).to_owned(), since: *since, heard: NOW - 60 };
        ClusterNode { ready: true, schedulable: true, pressures: since.iter().map(told).collect(), ..ClusterNode::default() }
    }

    struct Case {
        nodes: BTreeMap<String, ClusterNode>,
        scores: BTreeMap<String, NodeScore>,
        history: History,
    }

    /// A node under pressure for ten minutes, one that is calm, and one that is neither.
    fn case() -> Case {
        let nodes = [("a", node(&[("io", NOW - 300), ("cpu", NOW - 600)])), ("b", node(&[])), ("c", node(&[("cpu", NOW - 10)]))];
        let score = |score| NodeScore { score, ..NodeScore::default() };
        let named = |(name, value): (&str, _)| (name.to_owned(), value);
        Case {
            nodes: nodes.into_iter().map(named).collect(),
            scores: [("a", score(1)), ("b", score(8)), ("c", score(2))].into_iter().map(|(name, score)| (name.to_owned(), score)).collect(),
            history: History::began(0),
        }
    }

    fn chosen(case: &Case) -> Result<Source, &'static str> {
        choose(&Rebalance::default(), Cluster { nodes: &case.nodes, scores: &case.scores, history: &case.history, now: NOW })
    }

    #[test]
    fn the_one_whose_pressure_lasts_is_relieved_while_another_is_much_better() {
        let expected = Source { node: "a".to_owned(), resource: "cpu".to_owned(), lasted: 600, better: "b".to_owned() };
        assert_eq!(chosen(&case()), Ok(expected));
    }

    #[test]
    fn of_two_the_worse_comes_first() {
        let mut case = case();
        case.nodes.insert("c".to_owned(), node(&[("memory", NOW - 400)]));
        case.scores.get_mut("c").unwrap().score = 0;
        assert_eq!(chosen(&case).map(|source| (source.node, source.resource)), Ok(("c".to_owned(), "memory".to_owned())));
    }

    #[test]
    fn each_reason_to_leave_things_as_they_are() {
        type Change = (fn(&mut Case), &'static str);
        let changes: [Change; 9] = [
            (|case| case.nodes.get_mut("a").unwrap().pressures.clear(), "no node is under lasting pressure"),
            (
                |case| case.nodes.get_mut("a").unwrap().pressures.iter_mut().for_each(|told| told.heard = 0),
                "no node is under lasting pressure",
            ),
            (|case| case.history.evicted("c", "1", NOW - 30), "a pod was evicted a short while ago"),
            (|case| case.history.evicted("a", "1", NOW - 200), "the nodes under pressure were relieved a short while ago"),
            (|case| case.nodes.get_mut("b").unwrap().ready = false, "no other node is calm and takes pods"),
            (|case| case.nodes.get_mut("b").unwrap().schedulable = false, "no other node is calm and takes pods"),
            (|case| case.scores.get_mut("b").unwrap().stale = true, "no other node is calm and takes pods"),
            (|case| case.scores.get_mut("b").unwrap().score = 3, "no other node would do much better"),
            // A control plane that has just taken over does not know what the one before did.
            (|case| case.history = History::began(NOW - 61), "the nodes under pressure were relieved a short while ago"),
        ];
        for (change, expected) in changes {
            let mut case = case();
            change(&mut case);
            assert_eq!(chosen(&case), Err(expected));
        }
    }
}
