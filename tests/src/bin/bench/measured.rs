//! Figures that the agent's own code gives, where measuring needs what is inside of it: tests of its crate that are run for this alone.

use std::process::Command;

use ::tests::{place, program};
use anyhow::{Context, ensure};

use crate::figure::Figure;

/// Of the tests whose names begin so.
pub fn figures(names: &str, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let mut tests = Command::new("cargo");
    tests.args(["test", "--quiet", "--profile", "image", "--package", "nodeagent", names]);
    tests.args(["--", "--ignored", "--nocapture", "--test-threads=1"]);
    tests.env("CORTEN_BENCH_ROUNDS", rounds.to_string()).current_dir(place::repository());
    let printed = program::printed(&mut tests).context("measuring in the agent's crate")?;
    let figures = read(&printed)?;
    ensure!(!figures.is_empty(), "no figure was printed: are there tests named {names}?");
    Ok(figures)
}

/// Each stands on a line of its own, which may begin with the name of its test.
fn read(printed: &str) -> anyhow::Result<Vec<Figure>> {
    let figures = printed.lines().filter_map(|line| line.split_once("figure {").map(|(_, rest)| format!("{{{rest}")));
    figures.map(|text| serde_json::from_str(&text).with_context(|| format!("reading {text}"))).collect()
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
