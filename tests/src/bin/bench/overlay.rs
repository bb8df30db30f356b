//! What the overlay costs, beside a tunnel made by hand, routes alone, and flannel's daemon: in namespaces of this host, by the agent's own
//! code. The measuring is in the agent's crate (`controllers/overlay/measured`), as tests that are run for this alone. Needs root, iproute2
//! and what `make components` builds.

use serde_json::json;

use crate::figure::Outcome;
use crate::measured;

const TESTS: &str = "controllers::overlay::measured::";

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let figures = measured::figures(TESTS, rounds)?;
    let notes = vec![
        "one stream of TCP between pods, on one host: the wire is a bridge, and both machines share the processors".to_owned(),
        "CPU is that of the sending and the receiving thread, with what the kernel does in their names".to_owned(),
        "upstream's watch takes no projection, and metadata alone has no pod networks, no addresses and no readiness: agents watch whole Nodes, packed".to_owned(),
    ];
    Ok(Outcome { figures, notes, details: json!({ "rounds": rounds }) })
}
