//! What the overlay costs, beside a tunnel made by hand, routes alone, and flannel's daemon: in namespaces of this host, by the agent's own
//! code. The measuring is in the agent's crate (`controllers/overlay/measured`), as tests that are run for this alone. Needs root, iproute2,
//! Go and what `make components` builds.

use std::path::PathBuf;
use std::process::Command;

use ::tests::{place, program};
use anyhow::{Context, ensure};
use serde_json::json;

use crate::figure::{Figure, Outcome};
use crate::report;

const TESTS: &str = "controllers::overlay::measured::";

pub fn measure(rounds: usize) -> anyhow::Result<Outcome> {
    let flannel = flannel().context("building flannel's daemon")?;
    let mut tests = Command::new("cargo");
    tests.args(["test", "--quiet", "--profile", "image", "--package", "nodeagent", TESTS]);
    tests.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    tests.env("CORTEN_BENCH_ROUNDS", rounds.to_string()).env("CORTEN_BENCH_FLANNEL", flannel).current_dir(place::repository());
    let printed = program::printed(&mut tests).context("measuring in the agent's crate")?;
    let figures = read(&printed)?;
    ensure!(!figures.is_empty(), "no figure was printed: are there tests named {TESTS}?");
    let notes = vec![
        "one stream of TCP between pods, on one host: the wire is a bridge, and both machines share the processors".to_owned(),
        "CPU is that of the sending and the receiving thread, with what the kernel does in their names".to_owned(),
        "upstream's watch takes no projection: metadata alone has no pod networks and no addresses, so the agent watches whole Nodes"
            .to_owned(),
    ];
    Ok(Outcome { figures, notes, details: json!({ "rounds": rounds }) })
}

/// Each stands on a line of its own, which may begin with the name of its test.
fn read(printed: &str) -> anyhow::Result<Vec<Figure>> {
    let figures = printed.lines().filter_map(|line| line.split_once("figure {").map(|(_, rest)| format!("{{{rest}")));
    figures.map(|text| serde_json::from_str(&text).with_context(|| format!("reading {text}"))).collect()
}

/// flannel's backend and lease manager, from its Go module.
fn flannel() -> anyhow::Result<PathBuf> {
    let path = report::directory().join("flanneld");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-o"]).arg(&path).arg(".").current_dir(place::repository().join("tests/flanneld"));
    program::printed(go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly"))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_off_what_tests_print() {
        let printed = "\nrunning 1 test\ntest a::b ... figure {\"name\":\"one stream\",\"unit\":\"gigabitsPerSecond\",\"ours\":[2.0],\"peer\":[2.5],\
                       \"goal\":{\"ratioAtLeast\":0.97}}\nfigure {\"name\":\"alone\",\"unit\":\"microseconds\",\"ours\":[7.0],\"peer\":null,\"goal\":\"none\"}\nok\n";
        let figures = read(printed).unwrap();
        assert_eq!(figures.iter().map(|figure| figure.name.as_str()).collect::<Vec<_>>(), ["one stream", "alone"]);
        assert_eq!(figures[0].ratio(), Some(0.8));
        assert!(read("figure {\"name\":1}").is_err());
    }
}
