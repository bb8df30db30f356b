//! Looks for the machine's first config outside: on volumes, at metadata services, at a URL. Only in maintenance, beside callers of the
//! machine API; a machine that has a config never looks again.
//!
//! reads: boot facts, kernel command line, SecureBoot variable, links, addresses   writes: configsources, the first machine config

mod answer;
mod ask;
mod aws;
mod azure;
mod config_drive;
mod content;
mod facts;
pub mod fetch;
mod gcp;
mod instance;
mod metadata;
mod nocloud;
mod openstack;
mod plan;
pub mod trust;
mod url;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use machine::stage::Stage;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::addresses::reachable;
use crate::config::Configs;
use crate::identity;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::resources::sources::{ConfigSource, Outcome};
use ask::{Asker, Found, Outside, place};
pub use metadata::{ADDRESS as METADATA_ADDRESS, Metadata, is_there as has_metadata};
use plan::{Plan, Source};

/// Looks until the machine has a config.
pub async fn watch(node: Node, configs: Arc<Configs>) {
    let outside = Outside::default();
    // A machine that boots with its config has nothing to look for.
    if identity::configured(&node) {
        return;
    }
    let platform = platform(&node, outside.waits).await;
    let facts = facts::read(&node.root, platform);
    Watch::new(node, configs, &outside).run(plan::plan(&facts)).await
}

/// init has it from the image.
async fn platform(node: &Node, (mut wait, longest): (Duration, Duration)) -> String {
    loop {
        match node.init.boot_facts().await {
            Ok(facts) => return facts.platform,
            Err(error) => tracing::warn!("asking init for the platform: {error:#}"),
        }
        tokio::time::sleep(wait).await;
        wait = longer(wait, longest);
    }
}

fn longer(wait: Duration, longest: Duration) -> Duration {
    (wait * 2).min(longest)
}

struct Watch {
    node: Node,
    configs: Arc<Configs>,
    asker: Asker,
    waits: (Duration, Duration),
    /// By source, the digest of what was refused last and why: nobody is told of it twice.
    refused: BTreeMap<&'static str, (Vec<u8>, String)>,
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// The machine has a config.
    Over,
    Nothing,
}

impl Watch {
    fn new(node: Node, configs: Arc<Configs>, outside: &Outside) -> Watch {
        let asker = Asker::new(node.clone(), outside);
        Watch { node, configs, asker, waits: outside.waits, refused: BTreeMap::new() }
    }

    async fn run(mut self, plan: Plan) {
        self.publish(&plan);
        let (mut stages, mut board) = (self.node.watch_stage(), self.node.store.revision());
        let (first, longest) = self.waits;
        let mut wait = first;
        while !plan.sources.is_empty() && stages.wait_for(|stage| *stage == Stage::Maintenance || has_config(&self.node)).await.is_ok() {
            let addresses = reachable(&self.node.store);
            if self.round(&plan.sources).await == Round::Over {
                return;
            }
            // The network often comes after the first tries: then the next one does not wait.
            let arrived = async { while board.changed().await.is_ok() && reachable(&self.node.store) == addresses {} };
            wait = tokio::select! {
                () = tokio::time::sleep(wait) => longer(wait, longest),
                () = arrived => first,
                _ = stages.changed() => first,
            };
        }
    }

    /// Asks each source once, until one of them holds a config that is taken.
    async fn round(&mut self, sources: &[Source]) -> Round {
        for source in sources {
            if has_config(&self.node) {
                return Round::Over;
            }
            let asked = self.asker.ask(source).await;
            let round = match asked {
                Ok(Some(found)) => self.take(source, found).await,
                Ok(None) => self.tell(source, place(source), Outcome::Nothing, String::new()),
                Err(error) => self.tell(source, place(source), Outcome::Unreachable, format!("{error:#}")),
            };
            if round == Round::Over {
                return round;
            }
        }
        Round::Nothing
    }

    /// Puts what was found in force, by the same checks as a config that a caller sends.
    async fn take(&mut self, source: &Source, found: Found) -> Round {
        let digest = Sha256::digest(&found.content).to_vec();
        let document = match content::document(found.content) {
            Ok(Some(document)) => document,
            Ok(None) => return self.tell(source, found.place, Outcome::Nothing, "it is empty".to_owned()),
            Err(error) => return self.refuse(source, found.place, digest, format!("document: {:#}", anyhow::Error::from(error))),
        };
        let document = match &found.hostname {
            Some(hostname) => content::named(document, hostname),
            None => document,
        };
        match self.configs.apply_first(document, format!("source: {}", source.name())).await {
            Ok(outcome) => {
                self.node.console.print(&format!("machine config from {} ({})", source.name(), found.place));
                self.tell(source, found.place, Outcome::Applied, format!("generation {}", outcome.generation));
                Round::Over
            }
            // Somebody else was faster.
            Err(_) if has_config(&self.node) => Round::Over,
            Err(refusal) => self.refuse(source, found.place, digest, text(refusal)),
        }
    }

    /// Tells of a content that was not taken, once at the console and in the events.
    fn refuse(&mut self, source: &Source, place: String, digest: Vec<u8>, message: String) -> Round {
        let told = (digest, message.clone());
        if self.refused.get(source.name()) != Some(&told) {
            let name = source.name();
            self.node.console.print(&format!("machine config from {name} ({place}) is not taken:"));
            message.lines().take(CONSOLE_LINES).for_each(|line| self.node.console.print(&format!("  {line}")));
            self.node.events.emit(format!("configsource/{name}"), "Refused", format!("{place}: {message}"));
            self.refused.insert(name, told);
        }
        self.tell(source, place, Outcome::Refused, message)
    }

    fn tell(&self, source: &Source, place: String, result: Outcome, message: String) -> Round {
        let known = self.node.store.get::<ConfigSource>(source.name());
        if result == Outcome::Unreachable && known.as_ref().is_none_or(|known| known.message != message) {
            tracing::info!("looking for a machine config, {}: {message}", source.name());
        }
        let tries = known.map_or(0, |known| known.tries) + 1;
        self.node.store.put(source.name(), &ConfigSource { place, result, message, tried_at: now(), tries });
        Round::Nothing
    }

    fn publish(&self, plan: &Plan) {
        let asked = plan.sources.iter().map(|source| (source.name(), place(source), Outcome::Waiting, String::new()));
        let passed_over = plan.passed_over.iter().map(|(name, why)| (*name, String::new(), Outcome::PassedOver, why.clone()));
        for (name, place, result, message) in asked.chain(passed_over) {
            self.node.store.put(name, &ConfigSource { place, result, message, tried_at: String::new(), tries: 0 });
        }
        for (name, why) in &plan.passed_over {
            self.node.console.print(&format!("machine config from {name}: {why}"));
        }
    }
}

/// A config with many mistakes must not push everything else off the screen.
const CONSOLE_LINES: usize = 10;

fn has_config(node: &Node) -> bool {
    node.config().is_some()
}

/// The whole chain: what is wrong, field by field, or what does not work.
fn text(refusal: Refusal) -> String {
    format!("{:#}", anyhow::Error::from(refusal))
}

fn now() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
