//! What the node score does to the pressure on nodes, beside kube-scheduler's own rules and Trimaran's: in the simulator (docs/simulator.md), and the
//! simulator's model of pressure beside this host's kernel.

mod kernel;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ::simulator::policy::Rule;
use ::simulator::run::{Outcome, Settings, run};
use ::simulator::workload::Mix;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::figure::{self, Figure, Goal, Unit};
use crate::samples::Samples;

pub use kernel::{Load, act};

/// The weight that a machine config gives unless told otherwise.
const WEIGHT: i64 = 2;
const RULES: [Rule; 5] =
    [Rule::Kubernetes, Rule::TargetLoadPacking, Rule::LoadVariationRiskBalancing, Rule::Pressure { weight: WEIGHT }, Rule::Foresight];
/// Half of the CPUs in use, as in the traces; and a third, as in most clusters.
const MIXES: [(&str, Mix); 2] =
    [("busy", Mix { services_requested: 0.7, batch_used: 0.25 }), ("usual", Mix { services_requested: 0.6, batch_used: 0.1 })];

#[derive(Debug, Args)]
pub struct Size {
    /// Nodes of the simulated cluster
    #[arg(long, default_value_t = 500)]
    nodes: usize,
    /// Runs of each rule, each with pods of its own
    #[arg(long, default_value_t = 10)]
    seeds: u64,
}

pub fn measure(size: &Size) -> anyhow::Result<figure::Outcome> {
    let mut outcome = figure::Outcome::default();
    let mut details = serde_json::Map::new();
    for (name, mix) in MIXES {
        let all = run_all(size, mix);
        let of = |rule: Rule, value: fn(&Outcome) -> f64| {
            let mut samples = Samples::default();
            all.iter().filter(|(ran, _)| *ran == rule).for_each(|(_, outcome)| samples.push(value(outcome)));
            samples
        };
        let p99 = |rule| of(rule, |outcome| outcome.some_p99 * 100.0);
        let ours = p99(Rule::Pressure { weight: WEIGHT });
        let trimaran = [Rule::TargetLoadPacking, Rule::LoadVariationRiskBalancing].map(p99).into_iter();
        let best = trimaran.min_by(|a, b| a.median().total_cmp(&b.median())).context("no rule of Trimaran's")?;
        let figure = |peer: &str, samples, goal| {
            Figure::beside(format!("p99 of cpu some, {name} cluster, beside {peer}"), Unit::Percent, ours.clone(), samples, goal)
        };
        outcome.figures.push(figure("kube-scheduler", p99(Rule::Kubernetes), Goal::RatioAtMost(0.5)));
        outcome.figures.push(figure("Trimaran's better rule", best, Goal::RatioAtMost(0.8)));
        for rule in RULES {
            let median = |value| of(rule, value).median();
            outcome.notes.push(format!(
                "{name}: {:26} p99 {:5.1} % mean {:5.2} % CPUs in use {:4.1} % +- {:4.1} slowdown p99 {:5.2} left out {:.0}",
                rule.name(),
                median(|o| o.some_p99 * 100.0),
                median(|o| o.some_mean * 100.0),
                median(|o| o.utilisation * 100.0),
                median(|o| o.spread * 100.0),
                median(|o| o.slowdown_p99),
                median(|o| o.left_out as f64),
            ));
        }
        details.insert(name.to_owned(), all.iter().map(|(rule, outcome)| as_json(*rule, outcome)).collect());
    }
    let check = kernel::check()?;
    outcome.figures.push(Figure::alone(
        "model beside this kernel, largest error of cpu some",
        Unit::Percent,
        Samples::exact(check.largest),
        Goal::AtMost(10.0),
    ));
    outcome.notes.extend(check.notes);
    outcome.details = json!({ "nodes": size.nodes, "seeds": size.seeds, "runs": details });
    Ok(outcome)
}

fn as_json(rule: Rule, outcome: &Outcome) -> Value {
    json!({
        "rule": rule.name(),
        "someP99": outcome.some_p99,
        "someMean": outcome.some_mean,
        "utilisation": outcome.utilisation,
        "spread": outcome.spread,
        "slowdownP99": outcome.slowdown_p99,
        "pods": outcome.pods,
        "leftOut": outcome.left_out,
    })
}

/// Every rule with every seed, on all CPUs.
fn run_all(size: &Size, mix: Mix) -> Vec<(Rule, Outcome)> {
    let work: Vec<(Rule, u64)> = RULES.iter().flat_map(|rule| (0..size.seeds).map(|seed| (*rule, seed))).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((rule, seed)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(*rule, &Settings { nodes: size.nodes, seed: *seed, seconds: 3600.0, mix });
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((*rule, *seed, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(rule, seed, _)| (rule.name(), *seed));
    done.into_iter().map(|(rule, _, outcome)| (rule, outcome)).collect()
}
