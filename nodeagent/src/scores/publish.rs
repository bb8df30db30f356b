//! The scores on the board, for whoever asks why pods go where they go: rounded, so that what hardly changes stays as it is.

use std::time::Duration;

use extender::Told;
use metrics::score::STALE;
use tokio::time::Instant;

use super::Scores;
use crate::node::Node;
use crate::resources::scores::NodeScore;

/// People look; the scheduler asks by itself.
const EVERY: Duration = Duration::from_secs(5);

pub async fn publish(node: Node, scores: Scores) {
    super::follow::until_control_plane(&node).await;
    loop {
        node.store.replace(scores.all(Instant::now()).into_iter().map(|(node, told)| (node, shown(told))));
        tokio::time::sleep(EVERY).await;
    }
}

fn shown(told: Told) -> NodeScore {
    let Some(why) = told.why else { return NodeScore { score: told.score, stale: true, ..NodeScore::default() } };
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let share = |used: f64, of: f64| if of > 0.0 { rounded(used / of) } else { 0.0 };
    NodeScore {
        score: told.score,
        headroom: rounded(why.made_of.headroom),
        calm: rounded(why.made_of.calm),
        cpu: share(why.load.cpus_used, why.load.cpus),
        memory: share(why.load.memory_used_bytes, why.load.memory_bytes),
        cpu_some: rounded(why.load.cpu_some),
        memory_full: rounded(why.load.memory_full),
        io_full: rounded(why.load.io_full),
        pending_cpus: rounded(why.pending.cpus),
        stale: why.age >= STALE,
    }
}
