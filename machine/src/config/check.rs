//! What a document must hold beyond the form of its fields: the rules between values. All that is wrong is found at once.

mod audit;
mod authority;
mod cluster;
mod components;
mod etcd;
mod files;
mod firewall;
mod health;
mod host;
mod kubelet;
mod link;
mod link_kind;
mod load_balancer;
mod network;
mod object;
mod owned;
pub(super) mod pem;
mod pressure;
mod registry;
mod routing;

use std::collections::HashSet;
use std::hash::Hash;

use super::document::{Config, Document};
use super::report::{Path, Problem, Report, UNNAMED};
use super::source::Source;

/// Reads a machine config and checks it in full: form first, then the rules between values.
pub fn load(text: impl AsRef<[u8]>, source_name: &str) -> Result<Config, Report> {
    let source = Source::read(text, source_name)?;
    Config::check(source.document()?, Some(&source))
}

impl Config {
    /// Checks a document. `source` is the text that it was read from, if it was: with it, each problem has a line and a column.
    pub fn check(document: Document, source: Option<&Source>) -> Result<Config, Report> {
        let Document { cluster, machine, .. } = document;
        let config = Config { cluster, machine };
        let mut check = Check { source, problems: Vec::new() };
        cluster::check(&config, &mut check);
        network::check(&config, &mut check);
        load_balancer::check(&config, &mut check);
        authority::check(&config, &mut check);
        components::check(&config, &mut check);
        etcd::check(&config.cluster.etcd, &mut check);
        host::check(&config.machine, &mut check);
        health::check(&config.machine.health, &mut check);
        audit::check(&config.machine.audit, &mut check);
        pressure::machine(&config.machine.pressure, &mut check);
        pressure::cluster(&config.cluster.pressure, &mut check);
        link::check(&config.machine.network, &mut check);
        link_kind::check(&config.machine, &mut check);
        routing::check(&config.machine.network.rules, &mut check);
        firewall::check(&config, &mut check);
        kubelet::check(&config, &mut check);
        registry::check(&config.machine.registries, &mut check);
        files::check(&config.machine.files, &mut check);
        object::check(&config, &mut check);
        Report::of(source.map_or(UNNAMED, Source::name), check.problems)?;
        Ok(config)
    }
}

/// Collects what is wrong.
pub(super) struct Check<'a> {
    source: Option<&'a Source>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// `found` and `expected` as in [`Problem`]; an empty remedy is none.
    fn add(&mut self, path: &Path, found: impl Into<String>, expected: impl Into<String>, remedy: impl Into<String>) {
        let place = self.source.map(|source| source.place_of(path)).unwrap_or_default();
        self.problems.push(Problem::new(path, found).expected(expected).remedy(remedy).at(place));
    }

    /// Adds a problem for each item that equals an earlier one.
    fn refuse_repeats<T: Hash + Eq>(&mut self, list: &Path, items: impl Iterator<Item = (String, T)>) {
        let mut seen = HashSet::new();
        for (index, (shown, item)) in items.enumerate() {
            if !seen.insert(item) {
                self.add(&list.item(index), format!("{shown:?} a second time"), "", "remove one of them");
            }
        }
    }
}
