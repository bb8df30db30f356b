//! `make bench`: the figures that Corten is built for, each measured beside its peer where there is one, as a table and as JSON.

mod api;
mod apply;
mod boot;
mod cgroups;
mod cluster;
mod collector;
mod delta;
mod etcd;
mod extender;
mod fail_over;
mod figure;
mod http;
mod kubelet;
mod measured;
mod memory;
mod node;
mod node_ready;
mod overlay;
mod programs;
mod report;
mod samples;
mod simulator;
mod sizes;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, ValueEnum};

use figure::Outcome;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures what docs/benchmarks.md shows; `make bench` builds what is measured first")]
struct Arguments {
    /// What to measure [default: all of it]
    names: Vec<Name>,
    /// How often, where repeating tells more
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long the machine idles before its memory is counted; less than ten minutes is for trying only
    #[arg(long, default_value = "10m")]
    idle: machine::config::Duration,
    #[command(flatten)]
    pair: delta::Named,
    #[command(flatten)]
    peer: collector::Peer,
    #[command(flatten)]
    size: simulator::Size,
    #[command(flatten)]
    load: simulator::Load,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Sizes,
    Api,
    Boot,
    NodeReady,
    Memory,
    Cluster,
    FailOver,
    Kubelet,
    Etcd,
    Delta,
    Apply,
    Collector,
    Overlay,
    Simulator,
    Extender,
}

impl Name {
    fn name(self) -> &'static str {
        match self {
            Name::Sizes => "sizes",
            Name::Api => "api",
            Name::Boot => "boot",
            Name::NodeReady => "node-ready",
            Name::Memory => "memory",
            Name::Cluster => "cluster",
            Name::FailOver => "fail-over",
            Name::Kubelet => "kubelet",
            Name::Etcd => "etcd",
            Name::Delta => "delta",
            Name::Apply => "apply",
            Name::Collector => "collector",
            Name::Overlay => "overlay",
            Name::Simulator => "simulator",
            Name::Extender => "extender",
        }
    }

    fn measure(self, arguments: &Arguments) -> anyhow::Result<Outcome> {
        match self {
            Name::Sizes => sizes::measure(),
            Name::Api => api::measure(arguments.rounds.max(api::LEAST_ROUNDS)),
            Name::Boot => boot::measure(arguments.rounds),
            Name::NodeReady => node_ready::measure(arguments.rounds),
            Name::Memory => memory::measure(arguments.idle.0),
            Name::Cluster => cluster::measure(arguments.rounds),
            Name::FailOver => fail_over::measure(arguments.rounds),
            Name::Kubelet => kubelet::measure(arguments.rounds),
            Name::Etcd => etcd::measure(arguments.rounds),
            Name::Delta => delta::measure(&arguments.pair),
            Name::Apply => apply::measure(&arguments.pair),
            Name::Overlay => overlay::measure(arguments.rounds),
            Name::Collector => collector::measure(arguments.rounds, &arguments.peer),
            Name::Simulator => simulator::measure(&arguments.size),
            Name::Extender => extender::measure(arguments.rounds),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match simulator::act(arguments.load) {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    let names = if arguments.names.is_empty() { Name::value_variants() } else { &arguments.names };
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let measured = name.measure(&arguments).and_then(|outcome| {
            println!("{outcome}");
            report::keep(name.name(), &outcome).context("keeping the result")
        });
        if let Err(error) = measured {
            eprintln!("bench: {}: {error:#}", name.name());
            code = ExitCode::FAILURE;
        }
    }
    code
}
