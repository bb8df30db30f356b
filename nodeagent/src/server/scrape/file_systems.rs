//! What containers have written, as the runtime counts it, and what the file system takes on which it lies.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use metrics::file_systems::{Capacity, Written};
use tokio::time::timeout;

use crate::containerd;
use crate::node::Node;
use crate::resources::services;

/// How long what the runtime says serves further scrapers: it counts every 10 s.
pub const FRESH: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const DEADLINE: Duration = Duration::from_secs(10);

/// `None` where the runtime does not run, or does not say.
pub async fn ask(node: Node) -> Option<Vec<Written>> {
    if !services::is_ready(&node.store, "containerd") {
        return None;
    }
    let answer = timeout(DEADLINE, containerd::layers(&node.root.containerd_socket())).await;
    let layers = answer.context("no answer").flatten();
    let measured = async { tokio::task::spawn_blocking(move || anyhow::Ok(of(layers?, capacity))).await? };
    measured.await.inspect_err(|error| tracing::warn!("asking the runtime what containers have written: {error:#}")).ok()
}

/// Most layers lie on one file system, which is asked once.
fn of(layers: Vec<containerd::Layer>, capacity: impl Fn(&Path) -> Option<Capacity>) -> Vec<Written> {
    let mut known: HashMap<String, Option<Capacity>> = HashMap::new();
    let written = layers.into_iter().map(|layer| {
        let on = *known.entry(layer.directory).or_insert_with_key(|directory| capacity(Path::new(directory)));
        Written { container: layer.container, bytes: layer.bytes, on }
    });
    written.collect()
}

fn capacity(directory: &Path) -> Option<Capacity> {
    let found = rustix::fs::statvfs(directory).ok()?;
    Some(Capacity { bytes: found.f_blocks.saturating_mul(found.f_frsize), inodes: found.f_files, free_inodes: found.f_ffree })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_file_system_is_asked_once() {
        let layer = |container: &str, directory: &str| containerd::Layer {
            container: container.to_owned(),
            directory: directory.to_owned(),
            bytes: 512,
        };
        let asked = Cell::new(0);
        let one = Capacity { bytes: 4096, inodes: 10, free_inodes: 5 };
        let written = of(vec![layer("a", "/one"), layer("b", "/gone"), layer("c", "/one")], |directory| {
            asked.set(asked.get() + 1);
            (directory == Path::new("/one")).then_some(one)
        });
        let expected = [("a", Some(one)), ("b", None), ("c", Some(one))];
        assert_eq!(written, expected.map(|(container, on)| Written { container: container.to_owned(), bytes: 512, on }));
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn a_file_system_says_how_much_it_takes() {
        let found = capacity(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(found.bytes > 0 && found.inodes >= found.free_inodes, "{found:?}");
        assert_eq!(capacity(Path::new("/no such directory")), None);
    }
}
