//! Where this machine's pods are, by the CNI plugin's own list of addresses and the runtime's of pods: known before a pod's first container
//! runs, while the API server has a pod's address a second or two later. Until it is known, nothing reaches a pod.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tokio::time::{Instant, sleep, timeout};

use super::cluster::Word;
use super::view::View;
use crate::containerd;
use crate::controllers::cni::NETWORK;
use crate::logs::Wait;
use crate::node::Node;

/// The runtime shows a pod a moment after its address is given to it.
const SOON: Duration = Duration::from_millis(50);
/// An address whose pod the runtime does not show for so long was left over.
const GIVEN_UP: Duration = Duration::from_secs(30);
/// How often to look whether there is anything to watch yet.
const WHETHER: Duration = Duration::from_secs(5);

pub async fn follow(node: Node, view: View) {
    loop {
        if let Err(error) = look(&node, &view).await {
            tracing::debug!("following the addresses of this machine's pods: {error:#}");
        }
        sleep(WHETHER).await;
    }
}

/// Follows for as long as all goes well.
async fn look(node: &Node, view: &View) -> anyhow::Result<()> {
    let directory = node.root.cni_directory().join("networks").join(NETWORK);
    let wait = Wait::new().context("starting to watch directories")?;
    // Namespace and name by sandbox; and since when one is not shown.
    let mut pods: BTreeMap<String, Result<(String, String), Instant>> = BTreeMap::new();
    loop {
        view.until_policies(true).await;
        wait.watch(&[&directory]).with_context(|| format!("watching {}", directory.display()))?;
        let given = given(&directory).with_context(|| format!("reading {}", directory.display()))?;
        pods.retain(|sandbox, _| given.values().any(|other| other == sandbox));
        for sandbox in given.values() {
            pods.entry(sandbox.clone()).or_insert_with(|| Err(Instant::now()));
        }
        let sought = |pod: &Result<_, Instant>| pod.as_ref().is_err_and(|since| since.elapsed() < GIVEN_UP);
        if pods.values().any(sought) {
            let shown = containerd::sandboxes(&node.root.containerd_socket()).await?;
            for (sandbox, pod) in pods.iter_mut().filter(|(_, pod)| pod.is_err()) {
                if let Some(found) = shown.get(sandbox) {
                    *pod = Ok(found.clone());
                }
            }
        }
        tell(view, &given, &pods);
        let patience = match (directory.is_dir(), pods.values().any(sought)) {
            (true, true) => SOON,
            (true, false) => GIVEN_UP,
            (false, _) => WHETHER,
        };
        // That nothing happens for so long is no fault.
        if let Ok(happened) = timeout(patience, wait.happened()).await {
            happened.context("watching the addresses of pods")?;
        }
    }
}

/// Sandboxes by address: host-local has a file of the address' name for each, whose first line is the sandbox.
fn given(directory: &Path) -> io::Result<BTreeMap<IpAddr, String>> {
    let files = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        files => files?,
    };
    let mut given = BTreeMap::new();
    for file in files {
        let file = file?;
        let Some(address) = file.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that goes in between is gone.
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        if let Some(sandbox) = text.lines().next().map(str::trim).filter(|sandbox| !sandbox.is_empty()) {
            given.insert(address, sandbox.to_owned());
        }
    }
    Ok(given)
}

fn tell(view: &View, given: &BTreeMap<IpAddr, String>, pods: &BTreeMap<String, Result<(String, String), Instant>>) {
    view.update(|cluster, words, _| {
        let mut here: BTreeMap<(Word, Word), Vec<IpAddr>> = BTreeMap::new();
        for (address, sandbox) in given {
            if let Some(Ok((namespace, name))) = pods.get(sandbox) {
                here.entry((words.get(namespace), words.get(name))).or_default().push(*address);
            }
        }
        cluster.locate(here.into_iter().map(|(pod, addresses)| (pod, addresses.into_boxed_slice())).collect())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("10.244.1.5", "abc\r\neth0"),
            ("fd00::5", "abc\r\neth0"),
            ("last_reserved_ip.0", "10.244.1.5"),
            ("lock", ""),
            ("10.244.1.6", ""),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let given = given(directory.path()).unwrap();
        let expected = [("10.244.1.5", "abc"), ("fd00::5", "abc")];
        assert_eq!(given, expected.into_iter().map(|(address, sandbox)| (address.parse().unwrap(), sandbox.to_owned())).collect());
        assert!(super::given(&directory.path().join("none")).unwrap().is_empty(), "before the first pod");

        let view = View::default();
        let shown = BTreeMap::from([("abc".to_owned(), Ok(("shop".to_owned(), "web".to_owned())))]);
        tell(&view, &given, &shown);
        let (cluster, _) = view.picture();
        assert_eq!(cluster.here.values().map(|addresses| addresses.len()).collect::<Vec<_>>(), [2]);
        tell(&view, &given, &BTreeMap::from([("abc".to_owned(), Err(Instant::now()))]));
        assert!(view.picture().0.here.is_empty(), "one that the runtime does not show");
    }
}
