//! How far an installation is, for those at the console and those at the machine API.

use std::path::PathBuf;

use crate::node::Node;
use crate::resources::installation::{InstallationStatus, Phase, REFUSED};

#[derive(Debug, Clone)]
pub struct Progress {
    node: Node,
    /// `/dev/vda`
    pub device: String,
    version: String,
}

impl Progress {
    pub fn new(node: Node, device: String, version: String) -> Progress {
        Progress { node, device, version }
    }

    /// Says it everywhere.
    pub fn tell(&self, phase: Phase, line: &str) {
        self.node.console.print(line);
        self.note(phase, line);
    }

    /// Runs what writes these files and reads them back, and tells how far it is at each tenth.
    pub fn of_copy(
        &self,
        what: &str,
        from: &[&PathBuf],
        copy: impl FnOnce(&mut dyn FnMut(u64)) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let size: u64 = from.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
        let (total, mut done, mut tenths) = ((2 * size).max(1), 0, 0);
        self.tell(Phase::Writing, &format!("writing {what} ({} MiB)", size.div_ceil(1 << 20)));
        copy(&mut |bytes| {
            done += bytes;
            let now = done * 10 / total;
            if now > tenths {
                tenths = now;
                self.note(Phase::Writing, &format!("writing {what}: {} %", tenths * 10));
            }
        })
    }

    fn note(&self, phase: Phase, line: &str) {
        self.node.events.emit("machine", reason(phase), line);
        let status = InstallationStatus { version: self.version.clone(), phase, message: line.to_owned() };
        self.node.store.put(self.device.trim_start_matches("/dev/"), &status);
    }
}

/// Says that no installation begins, to those who were not asked as well: a config from outside is answered by nobody. The same refusal again
/// is not told again.
pub fn tell_refusal(node: &Node, version: String, message: String) {
    let status = InstallationStatus { version, phase: Phase::Refused, message };
    if node.store.get(REFUSED).as_ref() == Some(&status) {
        return;
    }
    let line = format!("not installed: {}", status.message);
    node.console.print(&line);
    node.events.emit("machine", reason(status.phase), &line);
    node.store.put(REFUSED, &status);
}

/// Another config was taken.
pub fn forget_refusal(node: &Node) {
    node.store.remove::<InstallationStatus>(REFUSED);
}

fn reason(phase: Phase) -> &'static str {
    match phase {
        Phase::Refused => "InstallRefused",
        Phase::Writing => "Installing",
        Phase::Installed => "Installed",
        Phase::Failed => "InstallFailed",
    }
}
