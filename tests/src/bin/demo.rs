//! `make run` and `make smoke`: a local one-node cluster with a sample in it, kept running or checked and ended.

use anyhow::ensure;
use clap::Parser;
use tests::cluster::{Cluster, Options};
use tests::{place, sample};

#[derive(Debug, Parser)]
enum Demo {
    /// Keep the cluster running and print how to go on.
    Run {
        /// Let the machine reach the network.
        #[arg(long)]
        online: bool,
    },
    /// Check what comes out, and end the cluster.
    Smoke,
}

fn main() -> anyhow::Result<()> {
    let (keep, online) = match Demo::parse() {
        Demo::Run { online } => (true, online),
        Demo::Smoke => (false, false),
    };
    let name = if keep { "corten" } else { "smoke" };
    let cluster = Cluster::create(&Options { name: name.to_owned(), online, keep, ..Options::default() })?;

    println!("\n== the sample, deployed and asked through its Service ==");
    let answer = sample::deploy(&cluster)?;
    print!("{answer}");
    println!("\n== kubectl get nodes,pods -A ==");
    let listing = cluster.kubectl(&["get", "nodes,pods", "-A", "-o", "wide"])?;
    print!("{listing}");

    if !keep {
        ensure!(answer.starts_with("hello from hello-"), "the sample answered {answer:?}");
        ensure!(listing.contains(" Ready "), "no node is Ready:\n{listing}");
        ensure!(!listing.contains("CrashLoopBackOff"), "a pod crashes:\n{listing}");
        println!("\nsmoke: the cluster came up, the sample answered");
        return Ok(());
    }
    let directory = cluster.directory();
    println!("\nThe cluster runs on. To go on:");
    println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("  export CORTENCONFIG={}", directory.join("client.yaml").display());
    println!("  {} get pods -A", place::kubectl().display());
    println!("  {} get services", place::machinectl().display());
    println!(
        "  {} --state-dir {} cluster destroy {name}",
        place::machinectl().display(),
        directory.parent().unwrap_or(&directory).display()
    );
    Ok(())
}
